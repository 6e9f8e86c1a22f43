import mlx.core as mx
import numpy as np
import pytest

from mlxnode.kernels.pool import finish, pool, pool_ops

MODES = ("mean", "cls", "last")


def reference(hidden, lengths, mode, normalize, dimensions):
    """Row by row in float64."""
    rows = []
    for row, length, kept in zip(hidden, lengths, dimensions, strict=True):
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
@pytest.mark.parametrize("mode", MODES)
def test_pool_equals_reference(mode, normalize):
    random = np.random.default_rng(0)
    B, L, D = 7, 33, 24
    hidden = random.normal(size=(B, L, D)).astype(np.float32)
    lengths = np.array([0, 1, 2, 16, 32, 33, 33])
    dimensions = np.array([24, 24, 1, 8, 23, 24, 3])
    result = pool(
        mx.array(hidden),
        mx.array(lengths),
        mode,
        normalize=normalize,
        dimensions=mx.array(dimensions),
    )
    expected = reference(hidden, lengths, mode, normalize, dimensions)
    assert result.dtype == mx.float32
    np.testing.assert_allclose(np.array(result), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_pool_accumulates_halves_in_float32(mode, dtype):
    random = np.random.default_rng(1)
    hidden = mx.array(10 + random.normal(size=(2, 4096, 8))).astype(dtype)
    lengths = [4096, 3000]
    result = pool(hidden, mx.array(lengths), mode, normalize=False)
    exact = np.array(hidden.astype(mx.float32))
    expected = reference(exact, lengths, mode, False, [8, 8])
    np.testing.assert_allclose(np.array(result), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_pool_ignores_the_padding(mode):
    random = np.random.default_rng(2)
    hidden = random.normal(size=(3, 8, 4)).astype(np.float32)
    lengths = mx.array([1, 5, 8])
    clean = pool(mx.array(hidden), lengths, mode)
    for poison in (np.nan, np.inf, 1e30):
        dirty = hidden.copy()
        dirty[0, 1:] = poison
        dirty[1, 5:] = poison
        assert mx.array_equal(pool(mx.array(dirty), lengths, mode), clean)


@pytest.mark.parametrize("mode", MODES)
def test_pool_zero_rows_give_zeros(mode):
    hidden = mx.concatenate([mx.zeros((1, 4, 6)), mx.full((1, 4, 6), float("nan"))])
    result = pool(hidden, mx.array([4, 0]), mode, normalize=True)
    assert mx.array_equal(result, mx.zeros((2, 6)))


def test_finish_keeps_unit_length_at_extreme_scales():
    vectors = mx.array([[3e30, 4e30], [3e-30, 4e-30], [-3.0, 4.0]])
    result = np.array(finish(vectors, normalize=True))
    np.testing.assert_allclose(result, [[0.6, 0.8], [0.6, 0.8], [-0.6, 0.8]], rtol=1e-6)


def test_pool_dispatches_to_ops():
    hidden = mx.random.normal((2, 5, 3), key=mx.random.key(0))
    lengths = mx.array([2, 5])
    assert mx.array_equal(pool(hidden, lengths, "mean"), pool_ops(hidden, lengths, "mean"))
