"""Files of weights."""

from pathlib import Path

import mlx.core as mx


def read_arrays(file: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file by name.

    Raises:
        RuntimeError: MLX cannot read the file.
        ValueError: the file is of a kind without names.
    """
    arrays = mx.load(str(file))
    if not isinstance(arrays, dict):
        raise ValueError(f"{file} has no named arrays")
    return arrays
