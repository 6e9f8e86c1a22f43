"""Which layers of a model can keep their keys and values quantized: found by trying.

A model can use its cache in ways that quantized keys do not allow: products of its own with
keys, attention sinks, keys that another layer reads, latent keys that are projected.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    make_prompt_cache,
)

_GROUP_SIZES = (64, 32)  # of MLX's quantization, the better one first
_TRIED_BITS = 8  # whether a layer can be quantized does not depend on the bits
# Their attention is sparse in long texts only, and then reads the keys itself: no trial of a
# few tokens shows it.
_SPARSE = {"minimax_m3_vl"}
_ATTRIBUTE = "kv_choices"  # of a model; a trial is a pass over all of its layers


@dataclass(frozen=True)
class LayerChoice:
    """What happens to one layer cache. ``group_size`` 0: it stays as it is, for a reason."""

    layer: int  # the index of the model's layer
    group_size: int
    reason: str = ""


@dataclass(frozen=True)
class KVChoices:
    """The choices for all layer caches of a model, in the order in which they are made."""

    caches: tuple[LayerChoice, ...]

    def text(self, bits: int) -> str:
        """One line: how many layers are quantized, and which are not."""
        kept: dict[str, list[int]] = {}
        for choice in self.caches:
            if choice.reason:
                kept.setdefault(choice.reason, []).append(choice.layer)
        num_quantized = len({choice.layer for choice in self.caches if choice.group_size})
        num_layers = len({choice.layer for choice in self.caches})
        text = f"kv_cache_bits = {bits} quantizes {num_quantized} of {num_layers} layers"
        if not kept:
            return text
        parts = [f"{_ranges(layers)} ({reason})" for reason, layers in kept.items()]
        return f"{text}; not {', '.join(parts)}"


def quantized(layers: Sequence[Any], model: nn.Module, bits: int) -> list[Any]:
    """The empty ``layers`` of a new cache, quantized to ``bits`` where ``model`` allows it."""
    return _with_groups(layers, kv_choices(model).caches, bits)


def kv_choices(model: nn.Module) -> KVChoices:
    """Which layers of ``model`` can be quantized. Nothing is evaluated, neither the weights."""
    found = getattr(model, _ATTRIBUTE, None)
    if found is None:
        found = _find(model)
        object.__setattr__(model, _ATTRIBUTE, found)
    return found


def _find(model: nn.Module) -> KVChoices:
    def tried(wanted: Sequence[int]) -> list[LayerChoice]:
        return [
            choice
            if i in wanted or not choice.group_size
            else replace(choice, group_size=0, reason="used by the model in another way")
            for i, choice in enumerate(choices)
        ]

    def runs(wanted: Sequence[int]) -> bool:
        cache = _with_groups(make_prompt_cache(model), tried(wanted), _TRIED_BITS)
        try:
            for length in (3, 1):  # a prompt, and a step
                model(mx.zeros((1, length), mx.int32), cache=cache)
        except Exception:  # of any type: models raise what they like
            return False
        return True

    cache = make_prompt_cache(model)
    model(mx.zeros((1, 2), mx.int32), cache=cache)
    choices: list[LayerChoice] = []
    _each(cache, lambda index, layer: choices.append(_wish(index, layer)))
    wanted = [i for i, choice in enumerate(choices) if choice.group_size]
    if getattr(model, "model_type", None) in _SPARSE:
        wanted = []
    if not runs(wanted):
        wanted = _largest(wanted, runs)
    return KVChoices(tuple(tried(wanted)))


def _largest(wanted: list[int], runs: Callable[[Sequence[int]], bool]) -> list[int]:
    """The caches of ``wanted`` that work together; they do not all.

    If neither the first nor the last does, none of them is tried: a large model has many.
    """
    if not (runs(wanted[:1]) or runs(wanted[-1:])):
        return []
    kept: list[int] = []
    for i in wanted:
        if runs([*kept, i]):
            kept.append(i)
    return kept


def _wish(index: int, layer: Any) -> LayerChoice:
    """The choice as far as the cache itself tells, which holds some tokens."""
    if isinstance(layer, ArraysCache):
        return LayerChoice(index, 0, "states")
    if type(layer) is not KVCache:
        name = type(layer).__name__
        return LayerChoice(index, 0, "sliding windows" if name == "RotatingKVCache" else name)
    keys, values = layer.keys, layer.values
    if keys is None or values is None or 0 in (keys.size, values.size):
        return LayerChoice(index, 0, "no keys and values of their own")
    sizes = {keys.shape[-1], values.shape[-1]}
    for group_size in _GROUP_SIZES:
        if all(size % group_size == 0 for size in sizes):
            return LayerChoice(index, group_size)
    return LayerChoice(index, 0, f"head size {' and '.join(map(str, sorted(sizes)))}")


def _with_groups(layers: Sequence[Any], choices: Sequence[LayerChoice], bits: int) -> list[Any]:
    following = iter(choices)

    def of(_: int, layer: Any) -> Any:
        group_size = next(following).group_size
        return QuantizedKVCache(group_size, bits) if group_size else layer

    return _each(layers, of)


def _each(layers: Sequence[Any], function: Callable[[int, Any], Any]) -> list[Any]:
    """``function`` of the layer's index and of each cache, also of those inside of others."""

    def walk(index: int, layer: Any) -> Any:
        if not isinstance(layer, CacheList):
            return function(index, layer)
        layer.caches = tuple(walk(index, inner) for inner in layer.caches)
        return layer

    return [walk(index, layer) for index, layer in enumerate(layers)]


def _ranges(numbers: Sequence[int]) -> str:
    """``0-2, 5`` for 0, 1, 2, 5."""
    parts = []
    for _, run in itertools.groupby(
        enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0]
    ):
        found = [number for _, number in run]
        parts.append(str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}")
    return ", ".join(parts)
