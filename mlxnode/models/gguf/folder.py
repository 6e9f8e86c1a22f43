"""GGUF files: a folder with configuration and tokenizer, rebuilt from the metadata in the file.

The folder looks like any other Hugging Face model. The engine reads the weights from the GGUF
file itself.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxnode import __version__
from mlxnode.errors import ModelError, panics_caught, reason_of
from mlxnode.models.cache_folder import build_once, cache_folder
from mlxnode.models.gguf.config import config_of
from mlxnode.models.gguf.header import Metadata, Tensor, read_header
from mlxnode.models.gguf.tokenizer import tokenizer_config_of, tokenizer_of
from mlxnode.models.gguf.vocabulary import end_ids

TENSORS = "tensors.json"  # in the folder: the values of each Tensor
_FORMAT = 3  # of the folder; a folder of another format is made anew


def model_folder(file: Path, progress: Callable[[str], None] = lambda text: None) -> Path:
    """A folder with config.json and the tokenizer's files of the GGUF ``file``.

    Each version of mlxnode makes the folder once and keeps it in the cache, under a key of
    the file's path, size and modification time. ``progress`` is told when it is made.

    Raises:
        ModelError: the file is not a GGUF file, or its contents are not supported.
    """
    state = file.stat()
    identity = (
        f"{__version__}\0{_FORMAT}\0{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    )
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        progress(f"reading the tokenizer of {file.name}, once")
        write_folder(file, folder)

    return build_once(cache_folder() / "gguf" / f"{file.stem}-{key}", build)


def write_folder(file: Path, folder: Path) -> None:
    """Write the files of the GGUF ``file`` into ``folder``, which exists and is empty.

    Raises:
        ModelError: the file is not a GGUF file, or its contents are not supported.
    """
    metadata, tensors = read_header(file)
    try:
        parts, tokenizer = parts_of(metadata, tensors)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    for name, content in parts.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def parts_of(metadata: Metadata, tensors: list[Tensor]) -> tuple[dict[str, Any], Any]:
    """The contents of the files by name, and the tokenizer.

    Raises:
        ModelError: the metadata is damaged, or not supported.
    """
    try:
        with panics_caught():
            parts = {
                "config.json": config_of(metadata, tensors),
                TENSORS: tensors,
                "tokenizer_config.json": tokenizer_config_of(metadata),
                "generation_config.json": {"eos_token_id": end_ids(metadata)},
            }
            return parts, tokenizer_of(metadata)
    except KeyError as error:
        raise ModelError(f"the metadata lacks {error}") from error
    except ModelError:
        raise
    except Exception as error:  # of any type: the file is foreign data
        raise ModelError(f"the metadata is damaged: {reason_of(error)}") from error


def read_tensors(folder: Path) -> list[Tensor]:
    """The tensors of the file that ``folder`` was made of."""
    return [Tensor(*values) for values in json.loads((folder / TENSORS).read_text())]
