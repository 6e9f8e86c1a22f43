"""Which cache of a batch serves a layer, from the cache of a single sequence."""

from typing import Any

from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, RotatingKVCache

from mlxnode.engine.kvcache.layers.combined import CombinedCache
from mlxnode.engine.kvcache.layers.layer import BatchLayer
from mlxnode.engine.kvcache.layers.plain import SlotCache
from mlxnode.engine.kvcache.layers.states import StatesCache
from mlxnode.engine.kvcache.layers.windows import WindowCache
from mlxnode.engine.kvcache.prompt_cache import PromptCache, is_plain
from mlxnode.engine.kvcache.slots import Slots
from mlxnode.errors import ModelError


def new_layers(
    like: PromptCache, slots: Slots, width: int
) -> tuple[list[Any], list[BatchLayer]]:
    """The caches of all layers, as the model takes them, and those that have rows.

    ``like`` is the cache of a single sequence; ``width`` is the largest number of tokens that
    a pass writes to a row.

    Raises:
        ModelError: no cache of a batch serves a layer.
    """
    parts: list[BatchLayer] = []

    def new(layer: Any) -> Any:
        if isinstance(layer, CacheList):
            return CombinedCache([new(cache) for cache in layer.caches])
        parts.append(part := _new_part(layer, slots, width))
        return part

    return [new(layer) for layer in like], parts


def _new_part(like: Any, slots: Slots, width: int) -> BatchLayer:
    if is_plain(like):
        return SlotCache(slots, like)
    if type(like) is RotatingKVCache and not like.keep:
        return WindowCache(slots, like, width)
    if type(like) is ArraysCache:
        return StatesCache(slots, like)
    keeps = " that keeps the first tokens" if getattr(like, "keep", 0) else ""
    raise ModelError(f"its cache ({type(like).__name__}{keeps}) is not served")


def can_share_arrays(cache: PromptCache) -> bool:
    """True if the rows of a batch can share the caches of all layers.

    With chunked attention, mlx-lm computes one mask from the offset of one row.

    Raises:
        ModelError: a layer has a cache that is not served at all.
    """
    others = [layer for layer in cache if type(layer) is not ChunkedKVCache]
    new_layers(others, Slots(), width=1)
    return len(others) == len(cache)
