"""Quantizes the weights of a model that is opened, before they are read."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from mlxnode.errors import ModelError

_GROUP_SIZES = (64, 32)  # of MLX; the larger ones first, as mlx-lm converts models


def quantize_weights(model: nn.Module, bits: int) -> None:
    """Quantize the layers of ``model`` in place, to ``bits`` where it asks for no others.

    A layer whose width no group size divides stays as it is. Nothing is evaluated: each layer
    is read and quantized when its arrays are.

    Raises:
        ModelError: the weights are quantized already, or the model cannot be quantized.
    """
    if quantized_paths(model):
        raise ModelError(
            f"quantize = {bits}: the weights are quantized already; remove quantize"
        )
    preference = getattr(model, "quant_predicate", None)
    try:
        nn.quantize(model, bits=bits, class_predicate=_predicate(bits, preference))
    except Exception as error:  # of any type: layers of some models take other arguments
        raise ModelError(f"quantize = {bits}: mlx-lm cannot quantize it: {error}") from error
    if not quantized_paths(model):
        raise ModelError(
            f"quantize = {bits}: no layer has a width that 32 divides; remove quantize"
        )


def evaluate_in_turn(parameters: dict[str, Any]) -> None:
    """Evaluate arrays one after the other: what each was made of is freed before the next."""
    for _, array in tree_flatten(parameters):
        mx.eval(array)


def quantized_paths(model: nn.Module) -> frozenset[str]:
    """The paths of the layers whose weights are quantized."""
    return frozenset(path for path, module in model.named_modules() if "scales" in module)


def _predicate(
    bits: int, preference: Callable[[str, nn.Module], Any] | None
) -> Callable[[str, nn.Module], bool | dict[str, Any]]:
    """Whether and how a layer is quantized; ``preference`` is the model's own answer."""

    def predicate(path: str, module: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        wanted = preference(path, module) if preference is not None else True
        if not wanted:
            return False
        settings = wanted if isinstance(wanted, dict) else {}
        width = module["weight"].shape[-1]
        preferred = settings.get("group_size", _GROUP_SIZES[0])
        sizes = [size for size in (preferred, *_GROUP_SIZES) if width % size == 0]
        if not sizes:
            return False
        # Never fewer bits than the model asks for: its routers and heads need more than others.
        return {
            "bits": max(bits, settings.get("bits", bits)),
            "group_size": sizes[0],
            "mode": settings.get("mode", "affine"),
        }

    return predicate
