"""Activation functions by the names that config.json files use."""

import functools
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

# 1 / (1 + a1 z + ... + a6 z^6)^16 is 1 - erf(z) to 3e-7 for z >= 0 (Abramowitz and Stegun,
# 7.1.28). The highest power first.
_ERFC = (4.30638e-5, 2.765672e-4, 1.520143e-4, 9.2705272e-3, 4.22820123e-2, 7.05230784e-2, 1.0)
# The same of x / sqrt(2), halved.
_TAIL = [2 ** (1 / 16) * a * 0.5 ** (3 - i / 2) for i, a in enumerate(_ERFC)]


def gelu(x: mx.array) -> mx.array:
    """The exact GELU, to 1e-6 in float32.

    MLX computes erf one number at a time on the CPU, where that took a third of the time
    of a small encoder.
    """
    return _gelu_of_products(x) if mx.default_device() == mx.cpu else nn.gelu(x)


@functools.partial(mx.compile, shapeless=True)  # in one loop, if there is a compiler
def _gelu_of_products(x: mx.array) -> mx.array:
    distance = mx.abs(x)
    root = distance * _TAIL[0] + _TAIL[1]
    for coefficient in _TAIL[2:]:
        root = root * distance + coefficient
    for _ in range(4):
        root = root * root
    # What is missing from 0 or x falls off on both sides alike.
    return mx.maximum(x, 0) - distance / root


_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "gelu": gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
}


def activation(name: str) -> Callable[[mx.array], mx.array]:
    """The function that a config.json calls ``name``.

    Raises:
        ValueError: for a name that is not supported.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is not supported; expected {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
