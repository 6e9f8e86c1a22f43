"""Several caches of one layer, as mlx-lm's ``CacheList``."""

from collections.abc import Iterator, Sequence
from typing import Any

from mlx_lm.models.cache import CacheList

from mlxnode.engine.kvcache.prompt_cache import LayerCache


class CombinedCache:
    """The caches of one layer of a batch. The batch moves the rows of each of them."""

    def __init__(self, caches: Sequence[Any]):
        self.caches = tuple(caches)

    def __getitem__(self, idx: int) -> Any:
        return self.caches[idx]

    @property
    def state(self) -> list[Any]:
        return [cache.state for cache in self.caches]

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self.caches)


def nested(parts: Iterator[LayerCache], like: Sequence[Any]) -> list[LayerCache]:
    """The caches of single sequences ``parts``, combined as those of ``like`` are."""
    return [
        CacheList(*nested(parts, layer.caches))
        if isinstance(layer, CombinedCache)
        else next(parts)
        for layer in like
    ]
