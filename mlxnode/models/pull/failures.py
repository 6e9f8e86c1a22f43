"""The errors of the hub and of the network, each as one line for the user."""

import contextlib
import errno
from collections.abc import Iterator

from mlxnode.errors import ModelError


class HubError(ModelError):
    """The hub, the network or the disk is the reason, not the model."""


@contextlib.contextmanager
def hub_errors(repository: str, revision: str | None = None) -> Iterator[None]:
    """What fails inside becomes a ``HubError`` that names the repository and the remedy."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise HubError(f"{repository}: {_reason(error, revision)}") from error


def _reason(error: Exception, revision: str | None) -> str:
    import httpx2
    from huggingface_hub import constants, errors

    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision or 'main'!r} of it"
    if isinstance(error, errors.GatedRepoError):
        return (
            "the model is gated: accept its terms on "
            f"{constants.ENDPOINT} and set $HF_TOKEN (or run `hf auth login`)"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return (
            "the hub has no such repository, or it is private: check the name; for a private "
            "one, set $HF_TOKEN"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "$HF_HUB_OFFLINE forbids the network; unset it"
    if status is not None:
        return f"the hub answers {status}; try again later"
    if isinstance(error, errors.LocalEntryNotFoundError | httpx2.HTTPError):
        return f"no connection to {constants.ENDPOINT} ({_name(error)}): check the network"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk; the same command goes on when there is space"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'the cache'} cannot be written: {error.strerror}"
    return " ".join(str(error).split())[:300]


def _name(error: BaseException) -> str:
    """The first cause has the better name."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
