"""Runs the programs of the system."""

import subprocess
from collections.abc import Sequence

from mlxnode.errors import ServiceError

_TIMEOUT = 60.0  # seconds
# A part of what a program says -> the remedy.
_HINTS = {
    "connect to bus": "the user has no session: log in, or run `loginctl enable-linger`",
    "Domain does not support": "the user has no session: log in at the screen of this Mac",
    "Could not find domain": "the user has no session: log in at the screen of this Mac",
}


def run(command: Sequence[str], *, timeout: float = _TIMEOUT) -> str:
    """The output of ``command``.

    Raises:
        ServiceError: it fails; with its own words.
    """
    code, output, error = attempt(command, timeout=timeout)
    if code != 0:
        said = " ".join((error or output).split()) or "without a word"
        hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in said), "")
        raise ServiceError(f"`{' '.join(command)}` failed ({code}): {said}{hint}")
    return output


def attempt(command: Sequence[str], *, timeout: float = _TIMEOUT) -> tuple[int, str, str]:
    """The exit code, the output and the errors of ``command``.

    Raises:
        ServiceError: there is no such program, or it does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError as error:
        raise ServiceError(f"there is no program {command[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{' '.join(command)}` has not ended in {timeout:.0f} s") from error
    return done.returncode, done.stdout, done.stderr
