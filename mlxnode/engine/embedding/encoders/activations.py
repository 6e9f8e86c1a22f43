"""Activation functions: by the names of config.json files, and by the classes of torch.nn."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
}

TORCH_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "Identity": lambda x: x,
    "Tanh": mx.tanh,
    "ReLU": nn.relu,
    "GELU": nn.gelu,
    "Sigmoid": mx.sigmoid,
    "SiLU": nn.silu,
}


def activation(name: str) -> Callable[[mx.array], mx.array]:
    """The function that a config.json calls ``name``.

    Raises:
        ValueError: the name is not supported.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is not supported; expected {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
