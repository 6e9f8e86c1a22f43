"""Blocks of every quantized type of ggml in MLX's layouts, compared with gguf-py."""

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlxnode.engine.gguf.layouts import GROUP_SIZE, LAYOUTS
from mlxnode.engine.gguf.tensors import read_arrays, shapes
from mlxnode.models.gguf.header import Tensor

EXACT = [kind for kind, layout in LAYOUTS.items() if layout.convert is not None]
AGAIN = [kind for kind, layout in LAYOUTS.items() if layout.convert is None]
# What a product loses when values of 32 are quantized again, of uniformly drawn codes.
ERRORS = {8: 0.005, 6: 0.025, 5: 0.05}
UNIT = {mx.float16: 2.0**-11, mx.bfloat16: 2.0**-8}  # relative error of rounding


def random_rows(kind: str, *, smallest: float = 1e-30, largest: float = 1e30) -> np.ndarray:
    """Rows of two or more blocks of random bytes, uint8 [N, bytes].

    The magnitudes of each block are between the limits: a random half-precision number may be
    infinite.
    """
    type_ = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[type_]
    random = np.random.default_rng(len(kind) + ord(kind[-1]))
    blocks = random.integers(0, 256, (4000, size), np.uint8)
    with np.errstate(all="ignore"):
        magnitudes = np.abs(gguf.quants.dequantize(blocks, type_)).max(axis=1)
    blocks = blocks[(magnitudes >= smallest) & (magnitudes <= largest)][:600]
    assert len(blocks) >= 240
    return blocks[: len(blocks) // 6 * 6].reshape(-1, 3 * size)


def converted(kind: str, rows: np.ndarray, dtype: mx.Dtype, tmp_path) -> tuple:
    """The rows as the engine reads them from a file, dequantized; what gguf-py says; arrays."""
    type_ = gguf.GGMLQuantizationType[kind]
    expected = gguf.quants.dequantize(rows, type_)
    file = tmp_path / "rows"
    file.write_bytes(b"before" + rows.tobytes())
    tensor = Tensor("w", kind, list(expected.shape), 6, 6 + rows.nbytes)
    ((_, arrays),) = read_arrays(file, [tensor], dtype)
    ((_, planned),) = shapes([tensor], dtype)
    assert [(a.shape, a.dtype) for a in arrays] == [(a.shape, a.dtype) for a in planned]
    layout = LAYOUTS[kind]
    options = {"group_size": GROUP_SIZE, "bits": layout.bits, "mode": layout.mode}
    return np.array(mx.dequantize(*arrays, **options).astype(mx.float32)), expected, arrays


def test_layouts_has_every_quantized_type_that_gguf_py_can_read():
    dense = {"F32", "F16", "BF16"}
    assert {kind.name for kind in gguf.quants._type_traits} - dense == set(LAYOUTS)


@pytest.mark.parametrize("kind", EXACT)
def test_layout_keeps_each_value(kind, tmp_path):
    values, expected, _ = converted(kind, random_rows(kind), mx.float32, tmp_path)
    # Q4_K and Q5_K multiply a scale and a minimum: one rounding of float32, of either.
    scale = np.abs(expected).reshape(-1, GROUP_SIZE).max(axis=1).repeat(GROUP_SIZE)
    error = np.abs(values - expected).ravel()
    assert (error <= 4e-7 * scale).all()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_layout_keeps_the_scales_of_the_file_in_half_precision(kind, tmp_path):
    rows = random_rows(kind, smallest=1e-3, largest=100)
    _, _, (codes, scales, biases) = converted(kind, rows, mx.float16, tmp_path)
    layout = LAYOUTS[kind]
    wide = [array.astype(mx.float32) for array in (scales, biases)]
    values = mx.dequantize(codes, *wide, group_size=GROUP_SIZE, bits=layout.bits)
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K"])
def test_layout_rounds_the_scales_of_k_quants_once(kind, dtype, tmp_path):
    rows = random_rows(kind, smallest=0.1, largest=100)
    _, expected, (codes, scales, biases) = converted(kind, rows, dtype, tmp_path)
    bits = LAYOUTS[kind].bits
    wide = [array.astype(mx.float32) for array in (scales, biases)]
    values = np.array(mx.dequantize(codes, *wide, group_size=GROUP_SIZE, bits=bits))
    _, _, (_, scale, bias) = converted(kind, rows, mx.float32, tmp_path)
    bound = UNIT[dtype] * (np.abs(scale) * (2**bits - 1) + np.abs(bias))
    # A subnormal number of half precision has an absolute error.
    bound = (bound + 2.0**-24 * 2**bits).reshape(-1, 1) * (1 + 1e-5)
    error = np.abs(values - expected).reshape(-1, GROUP_SIZE)
    assert (error <= bound).all()
    assert error.max() > 0


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=str)
@pytest.mark.parametrize("kind", AGAIN)
def test_layout_quantizes_again_with_the_stated_error(kind, dtype, tmp_path):
    rows = random_rows(kind, smallest=0.1, largest=100)
    values, expected, _ = converted(kind, rows, dtype, tmp_path)
    bits = LAYOUTS[kind].bits
    groups, error = (
        array.reshape(-1, GROUP_SIZE)
        for array in (expected, values.astype(np.float32) - expected)
    )
    step = (groups.max(axis=1) - groups.min(axis=1)) / (2**bits - 1)
    rounding = 0 if dtype == mx.float32 else 3 * UNIT[dtype]
    bound = step * 0.5001 + rounding * np.abs(groups).max(axis=1) + 1e-6
    assert (np.abs(error).max(axis=1) <= bound).all()

    products = np.random.default_rng(0).normal(size=(GROUP_SIZE, 64))
    size = np.linalg.norm(groups, axis=1, keepdims=True).clip(1e-9)
    loss = np.linalg.norm(error / size @ products) / np.linalg.norm(groups / size @ products)
    assert loss < ERRORS[bits]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layout_of_equal_values_is_exact(kind, tmp_path):
    """Zeros, the most frequent padding, stay zeros."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    values, expected, _ = converted(kind, np.zeros((2, size), np.uint8), mx.float16, tmp_path)
    np.testing.assert_array_equal(values, expected)


def test_dense_tensors_keep_their_type(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for kind, dtype in (("F32", mx.float32), ("F16", mx.float16), ("BF16", mx.bfloat16)):
        content = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
        (tmp_path / "rows").write_bytes(content.tobytes())
        tensor = Tensor("w", kind, [4, 6], 0, content.nbytes)
        ((_, (array,)),) = read_arrays(tmp_path / "rows", [tensor], mx.float16)
        assert array.dtype == dtype
        np.testing.assert_array_equal(
            array.astype(mx.float32), mx.array(values).astype(dtype).astype(mx.float32)
        )


def test_large_tensors_are_converted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("mlxnode.engine.gguf.tensors._CHUNK", 200)  # two rows of 96
    values, expected, _ = converted("Q4_0", random_rows("Q4_0"), mx.float32, tmp_path)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
