"""The tensors of a GGUF file as arrays of MLX, or the shapes of those arrays alone."""

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxnode.engine.gguf.layouts import GROUP_SIZE, LAYOUTS, convert
from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Tensor

# Kinds that are not quantized. BF16 is the upper half of a float32.
_DENSE = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_DENSE_TYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
Arrays = Iterator[tuple[Tensor, list[mx.array]]]

_CHUNK = 1 << 22  # values that are converted at once: their temporary arrays stay small


def type_of(tensors: Sequence[Tensor], *, overflows_half: bool) -> mx.Dtype:
    """The type of scales, norms and dense weights, and so of the computations.

    That of the file, if its weights are dense. Scales of quantized weights are in half
    precision in the file, so this type keeps them exactly; bfloat16 rounds them.
    """
    if all(tensor.kind in _DENSE for tensor in tensors):
        (table,) = (tensor for tensor in tensors if tensor.name == "token_embd.weight")
        return _DENSE_TYPES[table.kind]
    return mx.bfloat16 if overflows_half else mx.float16


def read_arrays(file: Path, tensors: Sequence[Tensor], dtype: mx.Dtype) -> Arrays:
    """Each tensor with its arrays: the weight, or codes, scales and biases (not of MXFP4).

    One tensor after the other is converted, from the mapped file. A dense weight has the type
    of the file; scales and biases have ``dtype``.

    Raises:
        ModelError: a tensor has a type that is not supported, or the file ends within it.
    """
    with file.open("rb") as stream:
        data = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    for tensor in tensors:
        _check(tensor)
        content = data[tensor.start : tensor.end]
        if len(content) < tensor.end - tensor.start:
            raise ModelError(f"{file}: it is cut off within the tensor {tensor.name}")
        if tensor.kind in _DENSE:
            arrays = [_dense(content, tensor)]
        else:
            arrays = _quantized(content, tensor, dtype)
        mx.eval(arrays)
        yield tensor, arrays


def shapes(tensors: Sequence[Tensor], dtype: mx.Dtype) -> Arrays:
    """Arrays like those of ``read_arrays``, not evaluated. The file is not read.

    Raises:
        ModelError: a tensor has a type that is not supported.
    """
    for tensor in tensors:
        _check(tensor)
        if tensor.kind in _DENSE:
            yield tensor, [mx.zeros(tensor.shape, _DENSE_TYPES[tensor.kind])]
            continue
        layout = LAYOUTS[tensor.kind]
        *outer, width = tensor.shape
        groups = (*outer, width // GROUP_SIZE)
        words = mx.zeros((*outer, width * layout.bits // 32), mx.uint32)
        if layout.mode == "affine":
            yield tensor, [words, mx.zeros(groups, dtype), mx.zeros(groups, dtype)]
        else:
            yield tensor, [words, mx.zeros(groups, mx.uint8)]


def _check(tensor: Tensor) -> None:
    if tensor.kind not in _DENSE and tensor.kind not in LAYOUTS:
        known = ", ".join((*_DENSE, *LAYOUTS))
        raise ModelError(f"{tensor.name} has the type {tensor.kind}, not one of {known}")


def _dense(content: np.ndarray, tensor: Tensor) -> mx.array:
    array = mx.array(content.view(_DENSE[tensor.kind]).reshape(tensor.shape))
    return array.view(mx.bfloat16) if tensor.kind == "BF16" else array


def _quantized(content: np.ndarray, tensor: Tensor, dtype: mx.Dtype) -> list[mx.array]:
    """Weight, scales and, if the mode has them, biases."""
    layout = LAYOUTS[tensor.kind]
    *outer, width = tensor.shape
    num_rows = int(np.prod(outer, dtype=np.int64))
    rows = content.reshape(num_rows, -1)
    words = np.empty((num_rows, width * layout.bits // 32), np.uint32)
    is_affine = layout.mode == "affine"
    groups = (num_rows, width // GROUP_SIZE)
    scales = np.empty(groups, np.float32 if is_affine else np.uint8)
    biases = np.empty(groups if is_affine else (num_rows, 0), scales.dtype)
    step = max(1, _CHUNK // width)
    for i in range(0, num_rows, step):
        part = slice(i, i + step)
        words[part], scales[part], biases[part] = convert(
            tensor.kind, rows[part], lambda numbers: _rounded(numbers, dtype)
        )
    arrays = [mx.array(words)]
    if is_affine:
        arrays += [mx.array(scales).astype(dtype), mx.array(biases).astype(dtype)]
    else:
        arrays.append(mx.array(scales))
    return [array.reshape(*outer, -1) for array in arrays]


def _rounded(numbers: np.ndarray, dtype: mx.Dtype) -> np.ndarray:
    """float32 numbers, rounded to what ``dtype`` can store."""
    return np.array(mx.array(numbers).astype(dtype).astype(mx.float32))
