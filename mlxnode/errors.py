"""The exceptions of mlxnode.

::

    NodeError
    ├── ConfigError        the configuration is wrong; the command exits with 2
    ├── ModelError         a model cannot be fetched, read or served; exits with 1
    ├── AddressError       the server cannot listen on the address; exits with 1
    ├── StatusError        no running node tells its figures; exits with 1
    ├── UsageError         the usage of the keys cannot be read; exits with 1
    ├── ServiceError       launchd or systemd does not do what is asked; exits with 1
    └── RequestError       a node refuses a request of a command, or is not there; exits with 1
"""

import contextlib
from collections.abc import Iterator


class NodeError(Exception):
    """An error whose message is meant for the user who started the node."""

    exit_code = 1


class ConfigError(NodeError):
    """The configuration is wrong. The message names file, key, value and the expected value."""

    exit_code = 2


class ModelError(NodeError):
    """A model cannot be fetched, read or served."""


class AddressError(NodeError):
    """The server cannot listen on the address."""


class StatusError(NodeError):
    """No running node tells its figures."""


class UsageError(NodeError):
    """The usage of the keys cannot be read."""


class RequestError(NodeError):
    """A node does not answer, or refuses a request of a command.

    ``status`` is the HTTP status of a refusal; None: there was no answer, or only a part of it.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class ServiceError(NodeError):
    """launchd or systemd does not do what is asked."""


class RustPanic(RuntimeError):
    """A library written in Rust has met what it is not made for, such as a damaged file."""


@contextlib.contextmanager
def panics_caught() -> Iterator[None]:
    """A panic of such a library becomes a ``RustPanic``.

    By itself, it is no ``Exception`` and ends whatever does not expect it.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # each library has a class of its own
            raise RustPanic(" ".join(str(error).split())[:200]) from error
        raise


def reason_of(error: Exception) -> str:
    """Why a model cannot be served: one line, with the type of an unexpected exception."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NodeError) else f"{type(error).__name__}: {text}"
