"""Models in repositories of the Hugging Face hub."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from mlxnode.errors import ModelError

# Shows a download: a title, all bytes, those that are there -> takes the bytes that are there.
Meter = Callable[[str, int, int], AbstractContextManager[Callable[[int], None]]]

# The files to fetch: no second copy of the weights in another format.
MODEL_FILES = [
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.tiktoken",
]
OTHER_COPIES = ["consolidated*"]  # a second copy of the weights, in Mistral's own format


def is_repository_id(path: str) -> bool:
    """True if a path that does not exist can be a repository id, ``organisation/name``."""
    if path.count("/") != 1 or path.startswith("~") or path.endswith(".gguf"):
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


def find_in_cache(repository: str) -> Path | None:
    """The folder of the repository in the local hub cache, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository,
                allow_patterns=MODEL_FILES,
                ignore_patterns=OTHER_COPIES,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None


def _no_meter(title: str, total: int, start: int) -> AbstractContextManager:
    return nullcontext(lambda size: None)


def fetch(repository: str, meter: Meter | None = None) -> Path:
    """Download the repository into the local hub cache; returns its folder.

    A download that has ended early goes on where it was.

    Raises:
        ModelError: the download failed, or the repository has GGUF files alone.
    """
    from mlxnode.models.pull.download import check_space, download
    from mlxnode.models.pull.listing import ask_hub
    from mlxnode.models.pull.wanted import Wanted

    try:
        listing = ask_hub(Wanted(repository))
        if listing.path != listing.snapshot:
            raise ModelError(f"run `mlxnode pull {repository}`, and set path to the GGUF file")
        check_space(listing)
        here = listing.size - listing.missing
        with (meter or _no_meter)(f"fetching {repository}", listing.size, here) as show:
            return download(listing, show)
    except ModelError as error:
        raise ModelError(
            f"it is no folder here, and fetching it from the Hugging Face hub failed: {error}"
        ) from error
