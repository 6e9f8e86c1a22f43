"""Whether the files of weights are whole: a download may have ended early.

MLX reads weights when they are first used. The end of a file that is too short would then end
the whole engine.
"""

import json
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models.files import ModelFiles
from mlxnode.models.gguf.folder import read_tensors

_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_INDEX = "model.safetensors.index.json"


def check_complete(files: ModelFiles) -> None:
    """Compare each file with its header, and the folder with its index.

    Raises:
        ModelError: a file is missing, too short, or no file of its format.
    """
    if files.weights.is_file():
        _check_size(files.weights, max(end for *_, end in read_tensors(files.folder)))
        return
    for file in files.weight_files:
        _check_safetensors(file)
    index = files.weights / _INDEX
    if not index.exists():
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index} cannot be read: {error}") from error
    missing = sorted(name for name in shards if not (files.weights / name).exists())
    if missing:
        raise ModelError(
            f"{files.weights}: {len(missing)} of {len(shards)} files of weights are missing, "
            f"such as {missing[0]}"
        )


def _check_safetensors(file: Path) -> None:
    """Source of the format: https://github.com/huggingface/safetensors#format."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise ModelError(f"{file}: its header is cut off, or it is no safetensors file")
            header = json.loads(stream.read(length))
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        expected = 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: no readable safetensors file: {error}") from error
    _check_size(file, expected)


def _check_size(file: Path, expected: int) -> None:
    if (size := file.stat().st_size) < expected:
        raise ModelError(f"{file}: it has {size} of {expected} bytes; download it again")
