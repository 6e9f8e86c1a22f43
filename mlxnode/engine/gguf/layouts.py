"""Blocks of ggml's quantized types, converted to MLX's quantized layouts.

MLX stores groups of 32 values, each value as a code of some bits: affine, scale * code + bias.
Most types of ggml say the same in another order, and are converted without loss. The others
are dequantized by gguf-py, whose functions are the reference, and quantized again.

Sources: gguf.quants, and mlx.core.quantize.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

GROUP_SIZE = 32

# Blocks [N, bytes of a block] -> codes [N, values of a block], scales and biases [N, groups].
Blocks = np.ndarray
Groups = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """How MLX stores a type of ggml.

    ``convert`` is None if the values are quantized again, with an error of about
    ``2 / 2**bits`` of the standard deviation of a group.
    """

    bits: int
    convert: Callable[[Blocks], Groups] | None = None
    mode: str = "affine"


def _halves(blocks: Blocks, at: int) -> np.ndarray:
    """The number in half precision at a byte of each block, float32 [N, 1]."""
    return blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32)


def _nibbles(blocks: Blocks) -> np.ndarray:
    """Codes of 4 bits: the low ones of all bytes, then the high ones."""
    return np.concatenate([blocks & 0x0F, blocks >> 4], axis=1)


def _fifth_bits(blocks: Blocks, at: int) -> np.ndarray:
    """Bit i of a word of 32 bits is the fifth bit of code i."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << 4


def _q4_0(blocks: Blocks) -> Groups:
    scale = _halves(blocks, 0)
    return _nibbles(blocks[:, 2:]), scale, -8 * scale


def _q4_1(blocks: Blocks) -> Groups:
    return _nibbles(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2)


def _q5_0(blocks: Blocks) -> Groups:
    scale = _halves(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2), scale, -16 * scale


def _q5_1(blocks: Blocks) -> Groups:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return codes, _halves(blocks, 0), _halves(blocks, 2)


def _q8_0(blocks: Blocks) -> Groups:
    scale = _halves(blocks, 0)
    return blocks[:, 2:] ^ 0x80, scale, -128 * scale  # int8 + 128, as uint8


def _k_groups(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Scales and biases of the eight groups of a block of 256 values, float32 [N, 8]."""
    scales, minima = quants.Q4_K.get_scale_min(blocks[:, 4:16].copy())
    return _halves(blocks, 0) * scales, -(_halves(blocks, 2) * minima)


def _k_nibbles(blocks: Blocks) -> np.ndarray:
    """128 bytes: 32 hold the low nibbles of one group and the high nibbles of the next."""
    pairs = blocks.reshape(-1, 4, 1, 32)
    return np.concatenate([pairs & 0x0F, pairs >> 4], axis=2).reshape(-1, 256)


def _q4_k(blocks: Blocks) -> Groups:
    return _k_nibbles(blocks[:, 16:]), *_k_groups(blocks)


def _q5_k(blocks: Blocks) -> Groups:
    # Bit i of byte j is the fifth bit of value j of group i.
    shifts = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = (blocks[:, None, 16:48] >> shifts & 1) << 4
    return _k_nibbles(blocks[:, 48:]) | fifth.reshape(-1, 256), *_k_groups(blocks)


def _mxfp4(blocks: Blocks) -> Groups:
    """The scales are exponents, and there are no biases."""
    return _nibbles(blocks[:, 1:]), blocks[:, :1], blocks[:, :0]


LAYOUTS = {
    "Q4_0": Layout(4, _q4_0),
    "Q4_1": Layout(4, _q4_1),
    "Q5_0": Layout(5, _q5_0),
    "Q5_1": Layout(5, _q5_1),
    "Q8_0": Layout(8, _q8_0),
    "Q4_K": Layout(4, _q4_k),
    "Q5_K": Layout(5, _q5_k),
    "MXFP4": Layout(4, _mxfp4, "mxfp4"),
    # Two groups of 16, or values that are not evenly spaced. The bits are chosen so that the
    # new error is small beside the error of the type itself.
    "Q6_K": Layout(8),
    "Q3_K": Layout(6),
    "Q2_K": Layout(5),
    "IQ4_NL": Layout(6),
    "IQ4_XS": Layout(6),
    "IQ3_S": Layout(6),
    "IQ3_XXS": Layout(6),
    "IQ2_S": Layout(5),
    "IQ2_XS": Layout(5),
    "IQ2_XXS": Layout(5),
    "IQ1_M": Layout(5),
    "IQ1_S": Layout(5),
    "NVFP4": Layout(6),
    "TQ1_0": Layout(5),
    "TQ2_0": Layout(5),
}


def convert(
    kind: str, data: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a quantized type in MLX's layout.

    ``rounded`` rounds float32 numbers to the type that will store scales and biases.

    Shapes: data uint8 [N, bytes of a row]; codes uint32 [N, words of a row], scales and biases
    [N, groups of a row], float32 (MXFP4: uint8, and no biases).
    """
    layout = LAYOUTS[kind]
    num_rows = len(data)
    if layout.convert is None:
        values = quants.dequantize(data, GGMLQuantizationType[kind])
        codes, scales, biases = _quantize(values.reshape(-1, GROUP_SIZE), layout.bits, rounded)
    else:
        _, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        codes, scales, biases = layout.convert(data.reshape(-1, size))
        if layout.mode == "affine":
            scales, biases = rounded(scales), rounded(biases)
    packed = _pack(codes.reshape(-1, 8), layout.bits).reshape(num_rows, -1)
    return packed, scales.reshape(num_rows, -1), biases.reshape(num_rows, -1)


def _quantize(
    groups: np.ndarray, bits: int, rounded: Callable[[np.ndarray], np.ndarray]
) -> Groups:
    """Codes between the smallest and the largest value of each group. Shapes: groups [N, 32]"""
    smallest = groups.min(axis=1, keepdims=True)
    steps = (1 << bits) - 1
    biases = rounded(smallest)
    scales = rounded((groups.max(axis=1, keepdims=True) - biases) / steps)
    # Of a group of equal values, the bias is the value and all codes are 0.
    codes = np.rint((groups - biases) / np.where(scales == 0, np.inf, scales))
    return codes.clip(0, steps).astype(np.uint8), scales, biases


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Eight codes of some bits as that many bytes, the first code in the lowest bits.

    Shapes: codes uint8 [N, 8]; uint32 [N * bits / 4]
    """
    if bits == 8:
        return codes.view(np.uint32).ravel()
    if bits == 4:
        return np.ascontiguousarray(codes[:, ::2] | codes[:, 1::2] << 4).view(np.uint32).ravel()
    words = np.zeros(len(codes), np.uint64)
    for i in range(8):
        words |= codes[:, i].astype(np.uint64) << np.uint64(bits * i)
    packed = words.view(np.uint8).reshape(-1, 8)[:, :bits]
    return np.ascontiguousarray(packed).ravel().view(np.uint32)
