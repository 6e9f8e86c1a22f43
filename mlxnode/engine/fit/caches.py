"""KV caches whose arrays have shapes and no contents, for traces."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import (
    ArraysCache,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from mlxnode.engine.kvcache.prompt_cache import PromptCache, flat_layers
from mlxnode.engine.kvcache.slots import Slots

# A place of an array: an object with attributes, or a list, and the name or index in it.
Place = tuple[Any, Any]


def places_of(owner: object) -> list[Place]:
    """The places of all arrays in ``owner``: a cache, or a list of caches."""
    return list(_walk(owner, None, None, set()))


def _walk(value: Any, owner: Any, key: Any, seen: set[int]) -> Iterator[Place]:
    if isinstance(value, mx.array):
        yield owner, key
    elif isinstance(value, tuple) and owner is not None:
        value = list(value)  # so that its items can be replaced
        _put(owner, key, value)
        yield from _walk(value, owner, key, seen)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, value, index, seen)
    elif _is_object(value) and id(value) not in seen:
        seen.add(id(value))
        for name, item in list(vars(value).items()):
            yield from _walk(item, value, name, seen)


def _is_object(value: object) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, Slots | type)


def get(places: Sequence[Place]) -> list[mx.array]:
    """The arrays at ``places``."""
    return [
        owner[key] if isinstance(owner, list) else getattr(owner, key) for owner, key in places
    ]


def put(places: Sequence[Place], arrays: Sequence[mx.array]) -> None:
    """Replace the arrays at ``places``."""
    for (owner, key), array in zip(places, arrays, strict=True):
        _put(owner, key, array)


def _put(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, list):
        owner[key] = value
    else:
        setattr(owner, key, value)


def blank(array: mx.array) -> mx.array:
    """An array of the same shape, not evaluated."""
    return mx.zeros(array.shape, array.dtype)


def lengthen(cache: PromptCache, length: int) -> None:
    """Give the cache of one sequence the shapes of ``length`` tokens."""
    layer: Any
    for layer in flat_layers(cache):
        if isinstance(layer, ArraysCache) or getattr(layer, "keys", None) is None:
            continue
        capacity = -(-length // getattr(layer, "step", 256)) * getattr(layer, "step", 256)
        if isinstance(layer, RotatingKVCache):
            capacity = min(length, layer.max_size)
            layer._idx = capacity
        elif isinstance(layer, ChunkedKVCache):
            layer.start_position = max(length - layer.chunk_size, 0)
            capacity = min(capacity, layer.chunk_size + layer.step)
        elif not isinstance(layer, KVCache | QuantizedKVCache):
            continue
        layer.keys = _resized(layer.keys, capacity)
        layer.values = _resized(layer.values, capacity)
        layer.offset = length


def _resized(arrays: Any, capacity: int) -> Any:
    if isinstance(arrays, mx.array):
        B, H, _, D = arrays.shape
        return mx.zeros((B, H, capacity, D), arrays.dtype)
    return tuple(_resized(array, capacity) for array in arrays)
