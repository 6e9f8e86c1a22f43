"""Reads the files of a model's folder, which are foreign: any of them may be a trap.

A FIFO never ends, a file may have any size, and JSON may be nested without end. Each is refused
before it is read.
"""

import itertools
import json
import stat
from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError

_MAX_ENTRIES = 10_000  # of a folder; the largest models have some hundred files
_MAX_BYTES = 1 << 30  # of any file that is no weights: tokenizer.json has up to 35 MB
_MAX_JSON = 1 << 26
_WEIGHTS = (".safetensors", ".gguf")
_READ = (*_WEIGHTS, ".jinja", ".json", ".model", ".tiktoken", ".txt")


def check_folder(folder: Path) -> None:
    """Look at the files in ``folder``, and in the folders in it, that libraries read.

    Raises:
        ModelError: one is neither a file nor a folder, or is too large.
    """
    try:
        entries = list(itertools.islice(folder.iterdir(), _MAX_ENTRIES + 1))
        inner = (entry.iterdir() for entry in entries if entry.is_dir())
        entries += itertools.islice(itertools.chain.from_iterable(inner), _MAX_ENTRIES)
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    if len(entries) > _MAX_ENTRIES:
        raise ModelError(f"{folder} has more than {_MAX_ENTRIES:,} files")
    for entry in entries:
        if entry.suffix in _READ:
            _check_entry(entry)


def check_file(file: Path) -> None:
    """Raises ModelError unless ``file`` is a regular file, or a link to one."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise ModelError(f"{file} is no file")


def read_json(file: Path) -> Any:
    """The JSON value in ``file``.

    Raises:
        ModelError: it cannot be read, is too large or too deep, or is no JSON.
    """
    check_file(file)
    try:
        if (size := file.stat().st_size) > _MAX_JSON:
            raise ModelError(f"{file} has {size:,} bytes; {_MAX_JSON:,} are possible")
        return json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} cannot be read: it is no UTF-8") from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ModelError(f"{file} cannot be read: it is nested too deeply") from error
    except ValueError as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        ModelError: as ``read_json``, or it holds another JSON value.
    """
    value = read_json(file)
    if not isinstance(value, dict):
        raise ModelError(f"{file}: expected a JSON object")
    return value


def _check_entry(entry: Path) -> None:
    try:
        state = entry.stat()
    except OSError:  # a link to nothing, which nobody reads
        return
    if stat.S_ISDIR(state.st_mode):
        return
    if not stat.S_ISREG(state.st_mode):
        raise ModelError(f"{entry} is neither a file nor a folder")
    if state.st_size > _MAX_BYTES and entry.suffix not in _WEIGHTS:
        raise ModelError(f"{entry} has {state.st_size:,} bytes; {_MAX_BYTES:,} are possible")
