"""The KV cache of one sequence: a list with one cache object of mlx-lm for each layer."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    make_prompt_cache,
)

from mlxnode.engine.kvcache.quantization import quantized
from mlxnode.engine.mirror import Mirrored, mirrored

Arrays = tuple[mx.array, ...]  # keys and values; a quantized one is three arrays
PlainCache = KVCache | QuantizedKVCache


class LayerCache(Protocol):
    """The part of mlx-lm's cache classes that all of them have."""

    @property
    def state(self) -> Any: ...

    @property
    def nbytes(self) -> Any: ...  # an int, which mlx-lm does not declare


PromptCache = Sequence[LayerCache]


class SequenceCache(list[LayerCache], Mirrored):
    """A ``PromptCache`` of which each rank has its part."""


@mirrored
def new_prompt_cache(model: nn.Module, bits: int | None = None) -> SequenceCache:
    """An empty cache. Keys and values are quantized to ``bits`` in the layers that allow it."""
    layers = make_prompt_cache(model)
    return SequenceCache(layers if bits is None else quantized(layers, model, bits))


def runs_to_the_end(model: nn.Module) -> bool:
    """True if every pass has to compute its logits, whoever needs them.

    The ranks of a pipeline wait for each other at the end of a pass (``loader/split.py``).
    """
    return getattr(model, "is_pipeline", False)


def is_plain(layer: object) -> TypeGuard[PlainCache]:
    """True if the layer caches the keys and values of all tokens, in order."""
    return type(layer) in (KVCache, QuantizedKVCache)


def is_trimmable(cache: PromptCache) -> bool:
    """True if the cache of a sequence contains the cache of each of its prefixes."""
    return all(is_plain(layer) for layer in flat_layers(cache))


@mirrored
def trimmed(cache: PromptCache, length: int, *, copy: bool = False) -> SequenceCache:
    """The cache of the first ``length`` tokens. Without ``copy``, both share their memory.

    Layers that cannot be cut stay as they are.
    """
    cut = SequenceCache(_trimmed(layer, length, copy=copy) for layer in cache)
    if copy:
        evaluate(cut)
    return cut


def _trimmed(layer: LayerCache, length: int, *, copy: bool) -> LayerCache:
    if isinstance(layer, CacheList):
        return CacheList(*(_trimmed(inner, length, copy=copy) for inner in layer.caches))
    if not is_plain(layer):
        return layer
    arrays = tuple(array[..., :length, :] for array in arrays_of(layer))
    return plain_cache(
        tuple(map(mx.contiguous, arrays)) if copy else arrays, length, like=layer
    )


@mirrored
def trim_in_place(cache: SequenceCache, length: int) -> SequenceCache:
    """``cache``, cut to its first ``length`` tokens. One layer at a time is there twice."""
    for i, layer in enumerate(cache):
        cache[i] = trimmed([layer], length, copy=True)[0]
    return cache


def evaluate(cache: PromptCache, *arrays: mx.array | None) -> None:
    """Compute the pending parts of ``cache``, and ``arrays``."""
    mx.eval([layer.state for layer in cache], *(a for a in arrays if a is not None))


def release_activations(cache: PromptCache) -> None:
    """Give states memory of their own: a model may keep the end of a chunk's activations.

    A view would hold the activations of the whole chunk.
    """
    for layer in flat_layers(cache):
        if isinstance(layer, ArraysCache):
            layer.cache = [
                state if state is None else mx.contiguous(state) for state in layer.cache
            ]


def num_tokens(cache: PromptCache) -> int:
    """The tokens in ``cache``; 0 if no layer counts them: states do not."""
    counts = (getattr(layer, "offset", None) for layer in flat_layers(cache))
    return next((count for count in counts if count is not None), 0)


def flat_layers(cache: PromptCache) -> list[LayerCache]:
    """All layer caches, also those inside of combined ones."""
    flat: list[LayerCache] = []
    for layer in cache:
        flat += flat_layers(layer.caches) if isinstance(layer, CacheList) else [layer]
    return flat


def arrays_of(layer: PlainCache) -> Arrays:
    """The keys and values of a layer, [1, H, length, D] each; nothing if it is empty."""
    if layer.keys is None:
        return ()
    keys, values = _fetch(layer)
    return (*keys, *values) if isinstance(layer, QuantizedKVCache) else (keys, values)


def _fetch(layer: PlainCache) -> tuple[Any, Any]:
    """Keys and values: one array each, or three if quantized."""
    return layer.keys_and_values()


def keys_and_values(arrays: Sequence[mx.array]) -> tuple[Any, Any]:
    """Keys and values as mlx-lm's caches hold them: one array each, or three if quantized."""
    if len(arrays) == 2:
        return arrays[0], arrays[1]
    return tuple(arrays[:3]), tuple(arrays[3:])


class Quantization(Protocol):
    """The attributes by which mlx-lm recognizes a cache with quantized keys and values."""

    group_size: int
    bits: int


def plain_cache(arrays: Arrays, length: int, *, like: object) -> PlainCache:
    """A layer cache of ``arrays``, quantized as ``like`` is."""
    layer: PlainCache
    if (quantization := quantization_of(like)) is not None:
        layer = QuantizedKVCache(quantization.group_size, quantization.bits)
    else:
        layer = KVCache()
    layer.keys, layer.values = keys_and_values(arrays) if arrays else (None, None)
    layer.offset = length
    return layer


def fill(layer: LayerCache, length: int, *, room: int) -> LayerCache:
    """A cache of zeros with ``length`` tokens, and room for more, as large as the real one.

    ``layer`` is the cache of one token; it is returned unless it caches all tokens in order.
    """
    if not is_plain(layer):
        return layer

    def part(array: mx.array) -> mx.array:
        B, H, _, D = array.shape
        return mx.zeros((B, H, length + room, D), array.dtype)

    return plain_cache(tuple(map(part, arrays_of(layer))), length, like=layer)


def quantization_of(layer: object) -> Quantization | None:
    """The quantization of a layer's keys and values, if they are quantized."""
    return layer if _is_quantized(layer) else None


def _is_quantized(layer: object) -> TypeGuard[Quantization]:
    return hasattr(layer, "bits")
