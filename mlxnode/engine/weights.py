"""Files of weights: their arrays, or the shapes of their arrays alone."""

from pathlib import Path

import mlx.core as mx

from mlxnode.models.gguf.folder import read_tensors


def read_arrays(file: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors or GGUF file by name.

    Raises:
        RuntimeError: MLX cannot read the file.
        ValueError: the file is of a kind without names.
    """
    arrays = mx.load(str(file))
    if not isinstance(arrays, dict):
        raise ValueError(f"{file} has no named arrays")
    return arrays


def shapes_of_gguf(folder: Path) -> dict[str, mx.array]:
    """Arrays like those that ``read_arrays`` reads from a GGUF file, not evaluated.

    ``folder`` was made of the file (``models/gguf/folder.py``). The file is not read.
    """
    bits = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}  # that MLX keeps quantized
    arrays: dict[str, mx.array] = {}
    for name, kind, shape, _ in read_tensors(folder):
        if kind in bits:
            *outer, width = shape
            path = name.removesuffix(".weight")
            arrays[name] = mx.zeros((*outer, width * bits[kind] // 32), mx.uint32)
            for part in ("scales", "biases"):
                arrays[f"{path}.{part}"] = mx.zeros((*outer, width // 32), mx.float16)
        else:
            arrays[name] = mx.zeros(shape, mx.float32 if kind == "F32" else mx.float16)
    return arrays
