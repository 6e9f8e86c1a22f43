"""The JSON files of a sentence-transformers folder, with errors that name the file."""

from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import read_json


def read_array(file: Path) -> list[Any]:
    """The JSON array in ``file``.

    Raises:
        ModelError: the file cannot be read, or holds another JSON value.
    """
    value = read_json(file)
    if not isinstance(value, list):
        raise ModelError(f"{file}: expected a JSON array")
    return value


def positive(settings: dict[str, Any], key: str, file: Path) -> int:
    """The positive integer under ``key``; ``file`` is named in the error.

    Raises:
        ModelError: the key is missing, or holds another value.
    """
    value = settings.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{file}: {key} must be a positive integer, got {value!r}")
    return value
