"""The file of a service."""

import os
import tempfile
from pathlib import Path

from mlxnode.errors import ServiceError


def write_file(file: Path, text: str) -> None:
    """Write ``file`` in one step; it holds no secrets, and others may read it.

    Raises:
        ServiceError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), 0o644)  # launchd refuses what others can write
                stream.write(text)
            os.replace(scratch, file)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ServiceError(f"{file} cannot be written: {error.strerror}") from error


def check_installed(file: Path) -> None:
    """Raises ServiceError if there is no ``file``."""
    if not file.exists():
        raise ServiceError(f"there is no {file}: run `mlxnode service install` first")
