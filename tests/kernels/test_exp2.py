"""Powers of two from sums and products."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.kernels.exp2 import exp2

SIZE = 100_000


def test_exp2_is_exact_to_two_units_in_the_last_place():
    random = np.random.default_rng(0)
    x = np.concatenate(
        [-random.exponential(20, SIZE // 2), random.uniform(-126, 127.9, SIZE // 2)]
    ).astype(np.float32)
    x = np.maximum(x, -126)
    expected = np.exp2(x.astype(np.float64))
    assert np.allclose(np.array(exp2(mx.array(x))), expected, rtol=2.4e-7, atol=0)


def test_exp2_of_whole_numbers_is_exact():
    powers = np.resize(np.arange(-126, 128), SIZE)
    got = np.array(exp2(mx.array(powers.astype(np.float32))))
    assert np.array_equal(got, np.ldexp(1.0, powers))


@pytest.mark.parametrize(
    ("x", "expected"), [(-math.inf, 0), (-1e30, 0), (-200, 0), (math.nan, math.nan), (-0.0, 1)]
)
def test_exp2_at_the_edges(x, expected):
    got = np.array(exp2(mx.full((SIZE,), x)))
    assert np.array_equal(got, np.full(SIZE, expected), equal_nan=True)


def test_exp2_below_the_smallest_normal_number_stays_below_it():
    x = np.linspace(-130, -126, SIZE).astype(np.float32)
    got = np.array(exp2(mx.array(x)))
    assert (got >= 0).all() and (got <= 2.0**-126).all()
