"""The header of a safetensors file, checked: MLX reads where the header says.

Source of the format: https://github.com/huggingface/safetensors#format.
"""

import json
from pathlib import Path
from typing import Any, TypeGuard

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import check_file

_MAX_HEADER = 1 << 25  # bytes; 100,000 tensors have half of it
_MAX_DIMENSIONS = 16
# Bits of a value.
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


def check_safetensors(file: Path) -> int:
    """The number of tensors of ``file``, all of which are in it.

    Raises:
        ModelError: the file is cut off, or its header is damaged.
    """
    check_file(file)
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise ModelError(f"{file}: its header is cut off, or it is no safetensors file")
            header = json.loads(stream.read(length), object_pairs_hook=_unique)
        end = _end_of(header)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ModelError(f"{file}: no readable safetensors file: it is too deep") from error
    except ValueError as error:
        raise ModelError(f"{file}: no readable safetensors file: {error}") from error
    check_size(file, 8 + length + end)
    return len(header.keys() - {"__metadata__"})


def check_size(file: Path, expected: int) -> None:
    """Raises ModelError if ``file`` has fewer bytes than ``expected``."""
    if (size := file.stat().st_size) < expected:
        raise ModelError(f"{file}: it has {size} of {expected} bytes; download it again")


def _end_of(header: Any) -> int:
    """Where the last tensor ends, counted from the end of the header.

    Raises:
        ValueError: an entry is damaged, or tensors do not follow one another.
    """
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    places = sorted(
        _place_of(name, entry) for name, entry in header.items() if name != "__metadata__"
    )
    end = 0
    for start, stop in places:
        if start < end:
            raise ValueError("a tensor lies over another one")
        end = stop
    return end


def _place_of(name: str, entry: Any) -> tuple[int, int]:
    name = name[:80]
    if not isinstance(entry, dict):
        raise ValueError(f"the tensor {name!r} is no object")
    shape, places = entry.get("shape"), entry.get("data_offsets")
    bits = _BITS.get(kind) if isinstance(kind := entry.get("dtype"), str) else None
    if bits is None:
        raise ValueError(f"the tensor {name!r} has the unknown type {kind!r:.40}")
    if not _are_lengths(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"the tensor {name!r} has no shape")
    if not _are_lengths(places) or len(places) != 2:
        raise ValueError(f"the tensor {name!r} has no data_offsets")
    values = 1
    for length in shape:
        values *= length
    start, end = places
    if end - start != -(-values * bits // 8):
        raise ValueError(f"the tensor {name!r} has other data_offsets than its shape needs")
    return start, end


def _are_lengths(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
        for value in values
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found
