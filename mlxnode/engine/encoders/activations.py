"""Activation functions by the names that config.json files use."""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

# erf(x) on [-4, 4] is x P(x^2) / Q(x^2) to 4e-7: the float coefficients of Eigen's erf.
_ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def gelu(x: mx.array) -> mx.array:
    """The exact GELU, to 2e-6 in float32.

    MLX computes erf one number at a time on the CPU, where that took a third of the time
    of a small encoder.
    """
    if mx.default_device() != mx.cpu:
        return nn.gelu(x)
    z = mx.clip(x * math.sqrt(0.5), -4, 4)
    erf = z * _polynomial(_ERF_P, z * z) / _polynomial(_ERF_Q, z * z)
    return x * (1 + erf) * 0.5


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    first, second, *rest = coefficients
    value = x * first + second
    for coefficient in rest:
        value = value * x + coefficient
    return value


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
