"""Pooling against float64, by the operations and by the Metal kernel."""

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.kernels.pool import MODES, PoolingColumns, finish, pool_ops
from mlxnode.kernels.pool_metal import pool_metal


@pytest.fixture(autouse=True)
def pool(is_metal):
    return pool_metal if is_metal else pool_ops


def reference(hidden, lengths, modes, dimensions, normalize) -> np.ndarray:
    """Row by row in float64."""
    rows = []
    for row, length, mode, kept in zip(hidden, lengths, modes, dimensions, strict=True):
        real = row[:length].astype(np.float64)
        if length == 0:
            vector = np.zeros(row.shape[-1])
        else:
            vector = {"mean": real.mean(axis=0), "cls": real[0], "last": real[-1]}[mode].copy()
        vector[kept:] = 0
        norm = np.linalg.norm(vector)
        rows.append(vector / norm if normalize and norm > 0 else vector)
    return np.array(rows)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize(("length", "size"), [(1, 8), (33, 24), (70, 384), (5, 1027)])
def test_pool_equals_the_reference(pool, length, size, dtype, normalize):
    random = np.random.default_rng(size)
    lengths = [0, 1, *random.integers(1, length + 1, 10).tolist(), length]
    modes = [MODES[i % 3] for i in range(len(lengths))]
    dimensions = [size, 1, *random.integers(1, size + 1, 10).tolist(), size]
    hidden = mx.array(random.normal(size=(len(lengths), length, size))).astype(dtype)
    columns = PoolingColumns.of(lengths, modes, dimensions)
    result = pool(hidden, columns, normalize=normalize)
    exact = np.array(hidden.astype(mx.float32))
    assert result.dtype == mx.float32
    expected = reference(exact, lengths, modes, dimensions, normalize)
    np.testing.assert_allclose(np.array(result), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pool_accumulates_halves_in_float32(pool, mode, dtype):
    random = np.random.default_rng(1)
    hidden = mx.array(10 + random.normal(size=(2, 4096, 8))).astype(dtype)
    lengths = [4096, 3000]
    columns = PoolingColumns.of(lengths, [mode] * 2, [8] * 2)
    exact = np.array(hidden.astype(mx.float32))
    expected = reference(exact, lengths, [mode] * 2, [8, 8], False)
    result = pool(hidden, columns, normalize=False)
    np.testing.assert_allclose(np.array(result), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_pool_ignores_the_padding(pool, mode):
    random = np.random.default_rng(2)
    hidden = random.normal(size=(3, 8, 4)).astype(np.float32)
    columns = PoolingColumns.of([1, 5, 8], [mode] * 3, [4] * 3)
    clean = pool(mx.array(hidden), columns, normalize=True)
    for poison in (np.nan, np.inf, 1e30):
        dirty = hidden.copy()
        dirty[0, 1:] = poison
        dirty[1, 5:] = poison
        assert mx.array_equal(pool(mx.array(dirty), columns, normalize=True), clean)


@pytest.mark.parametrize("mode", MODES)
def test_pool_rows_of_zeros_give_zeros(pool, mode):
    hidden = mx.concatenate([mx.zeros((1, 4, 6)), mx.full((1, 4, 6), float("nan"))])
    columns = PoolingColumns.of([4, 0], [mode] * 2, [6] * 2)
    assert mx.array_equal(pool(hidden, columns, normalize=True), mx.zeros((2, 6)))


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e20, 8e37])
def test_pool_keeps_unit_length_at_extreme_scales(pool, scale):
    hidden = mx.broadcast_to(mx.array([3 * scale, -4 * scale]), (1, 50, 2))
    columns = PoolingColumns.of([50], ["mean"], [2])
    result = np.array(pool(hidden, columns, normalize=True))
    np.testing.assert_allclose(result, [[0.6, -0.8]], rtol=1e-5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_pool_shows_a_row_that_is_not_finite_and_no_other(pool, broken):
    hidden = mx.ones((3, 4, 20))
    hidden[1, 2, 7] = broken
    columns = PoolingColumns.of([4, 4, 2], ["mean"] * 3, [20] * 3)
    for normalize in (True, False):
        result = np.isfinite(np.array(pool(hidden, columns, normalize=normalize)))
        assert result.all(axis=1).tolist() == [True, False, True]
    assert not np.isfinite(np.array(pool(hidden, columns, normalize=True))[1]).any()


def test_finish_equals_what_pool_does_at_the_end(pool):
    random = np.random.default_rng(3)
    hidden = mx.array(random.normal(size=(4, 1, 9)).astype(np.float32))
    columns = PoolingColumns.of([1] * 4, ["cls"] * 4, [9, 1, 4, 8])
    pooled = pool(hidden, columns, normalize=True)
    finished = finish(hidden[:, 0], columns.dimensions[:4], normalize=True)
    assert mx.allclose(pooled, finished, atol=1e-6)
