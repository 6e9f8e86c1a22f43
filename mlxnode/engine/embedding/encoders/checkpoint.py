"""What the encoders share: weights from Hugging Face safetensors, and the padding mask."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxnode.errors import ModelError


def mask_padding(lengths: mx.array, L: int) -> mx.array:
    """True where a key may be attended to: [B, 1, 1, L] for ``lengths`` [B] of at least 1."""
    return (mx.arange(L) < lengths[:, None])[:, None, None, :]


def load_weights(
    module: nn.Module, folder: Path, *, prefixes: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    """Fill ``module``, whose parameters are named as in the file, from ``folder``.

    A leading ``prefixes`` entry is taken off a name; names that then begin with an
    ``ignored`` entry (heads that embeddings do not use) are left out.

    Raises:
        ModelError: no safetensors, or a missing, unknown or misshapen weight.
    """
    weights = {}
    for name, array in read_safetensors(folder).items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        # Checkpoints from the TensorFlow days.
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if not name.startswith(ignored):
            weights[name] = array
    fill(module, weights, folder)


def fill(module: nn.Module, weights: dict[str, mx.array], source: Path) -> None:
    """Set all parameters of ``module``; float32 on the CPU, where halves are slow.

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
    if mx.default_device() == mx.cpu:
        module.set_dtype(mx.float32)
    module.eval()
    mx.eval(module.parameters())


def read_safetensors(folder: Path) -> dict[str, mx.array]:
    """All arrays of the model*.safetensors files of ``folder``."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no model.safetensors")
    weights: dict[str, mx.array] = {}
    for file in files:
        try:
            weights |= mx.load(str(file))
        except RuntimeError as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
    return weights


def _count(names: list[str]) -> str:
    return f"{len(names)} weight{'s' if len(names) > 1 else ''}"
