"""The activation functions of the CPU give the results of mlx and mlx-lm."""

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import activations

from mlxnode.engine.cpu.activations import gelu, swiglu


def normal(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32))


@pytest.mark.parametrize("rows", [3, 300])
def test_swiglu_is_that_of_the_models(rows):
    gate, x = 4 * normal(0, rows, 512), normal(1, rows, 512)
    expected = activations.swiglu(gate, x)
    assert np.allclose(swiglu(gate, x), expected, rtol=1e-5, atol=1e-6)
    half = [array.astype(mx.float16) for array in (gate, x)]
    assert swiglu(*half).dtype == mx.float16


@pytest.mark.parametrize("rows", [3, 300])
def test_swiglu_at_the_edges(rows):
    gate = mx.broadcast_to(mx.array([-1e30, -200.0, 0.0, 200.0, 1e30, mx.nan]), (rows * 100, 6))
    got = np.array(swiglu(gate, mx.ones(gate.shape)))
    expected = [0, 0, 0, 200, 1e30, np.nan]
    assert np.allclose(got, np.broadcast_to(expected, got.shape), atol=1e-6, equal_nan=True)


def test_gelu_is_exact():
    x = np.concatenate([np.linspace(-8, 8, 4001), [-1e4, 1e4, 0.0]]).astype(np.float32)
    expected = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.tolist()]
    np.testing.assert_allclose(np.array(gelu(mx.array(x))), expected, rtol=1e-6, atol=2e-6)


def test_gelu_keeps_half_precision():
    assert gelu(mx.ones(9, mx.bfloat16)).dtype == mx.bfloat16
