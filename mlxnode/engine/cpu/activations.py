"""Activation functions from operations that MLX has vector code for on the CPU."""

import functools

import mlx.core as mx
from mlx import nn
from mlx_lm.models import activations

from mlxnode.kernels.exp2 import exp2
from mlxnode.kernels.sample import LOG2_E

_swiglu = activations.swiglu
_SMALL = 1 << 13  # elements; below, one slow operation is as fast as many fast ones

# 1 / (1 + a1 z + ... + a6 z^6)^16 is 1 - erf(z) to 3e-7 for z >= 0 (Abramowitz and Stegun,
# 7.1.28). The highest power first.
_ERFC = (4.30638e-5, 2.765672e-4, 1.520143e-4, 9.2705272e-3, 4.22820123e-2, 7.05230784e-2, 1.0)
# The same polynomial of x / sqrt(2), for half the result.
_TAIL = [2 ** (1 / 16) * a * 0.5 ** (3 - i / 2) for i, a in enumerate(_ERFC)]


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """``mlx_lm.models.activations.swiglu``: the SiLU of ``gate``, times ``x``."""
    if gate.dtype != mx.float32 or gate.size < _SMALL:
        return _swiglu(gate, x)
    return gate * x / (1 + exp2(mx.minimum(gate * -LOG2_E, 126.0)))


def gelu(x: mx.array) -> mx.array:
    """``mlx.nn.gelu``, the exact GELU, to 1e-6 in float32.

    MLX computes erf one number at a time on the CPU. That took a third of the time of a small
    encoder.
    """
    return nn.gelu(x) if x.dtype != mx.float32 else _gelu(x)


@functools.partial(mx.compile, shapeless=True)  # one loop, if the machine has a compiler
def _gelu(x: mx.array) -> mx.array:
    distance = mx.abs(x)
    root = distance * _TAIL[0] + _TAIL[1]
    for coefficient in _TAIL[2:]:
        root = root * distance + coefficient
    for _ in range(4):
        root = root * root
    # The difference from 0 (x < 0) or from x (x > 0) is the same function of |x|.
    return mx.maximum(x, 0) - distance / root
