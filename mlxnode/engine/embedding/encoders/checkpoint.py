"""Shared by the encoders: weights from Hugging Face safetensors, and the padding mask."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxnode.engine import cpu
from mlxnode.engine.weights import read_arrays
from mlxnode.errors import ModelError


def mask_padding(lengths: mx.array, L: int) -> mx.array:
    """True for keys that are not padding: [B, 1, 1, L] for ``lengths`` [B] of at least 1."""
    return (mx.arange(L) < lengths[:, None])[:, None, None, :]


def load_weights(
    module: nn.Module, folder: Path, *, prefixes: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    """Set the weights of ``module``, whose parameters have the names of the file.

    ``prefixes`` are removed from the start of a name. A name that then starts with an entry
    of ``ignored`` (heads that embeddings do not use) is left out.

    Raises:
        ModelError: no safetensors, or a missing, unknown or misshapen weight.
    """
    weights = {}
    for name, array in read_safetensors(folder).items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        # Names of checkpoints that TensorFlow wrote.
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if not name.startswith(ignored):
            weights[name] = array
    set_weights(module, weights, folder)


def set_weights(module: nn.Module, weights: dict[str, mx.array], source: Path) -> None:
    """Set all parameters of ``module``. They are not evaluated.

    Raises:
        ModelError: a missing, unknown or misshapen weight.
    """
    expected = dict(tree_flatten(module.parameters()))
    if missing := sorted(expected.keys() - weights.keys()):
        raise ModelError(f"{source}: {_count(missing)} missing, such as {missing[0]}")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise ModelError(f"{source}: {_count(unknown)} unknown, such as {unknown[0]}")
    for name, array in weights.items():
        if array.shape != expected[name].shape:
            raise ModelError(
                f"{source}: {name} has shape {array.shape}, not {expected[name].shape}"
            )
    module.load_weights(list(weights.items()))
    cpu.install(module)
    module.eval()


def read_safetensors(folder: Path) -> dict[str, mx.array]:
    """All arrays of the model*.safetensors files of ``folder``.

    Raises:
        ModelError: no such file, or an unreadable one.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no model.safetensors")
    weights: dict[str, mx.array] = {}
    for file in files:
        try:
            weights |= read_arrays(file)
        except RuntimeError as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
    return weights


def _count(names: list[str]) -> str:
    return f"{len(names)} weight{'s' if len(names) > 1 else ''}"
