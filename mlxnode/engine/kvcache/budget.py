"""The memory of KV caches: what requests need, and who holds how much of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import ArraysCache, ChunkedKVCache, RotatingKVCache

from mlxnode.engine.kvcache.prompt_cache import (
    LayerCache,
    arrays_of,
    evaluate,
    flat_layers,
    is_plain,
    new_prompt_cache,
)
from mlxnode.engine.kvcache.separate import is_batchable
from mlxnode.engine.kvcache.slots import num_positions, num_slots
from mlxnode.engine.mirror import mirrored
from mlxnode.errors import ModelError

UNBOUNDED = 2**62  # tokens
_OWN_STEP = 256  # positions by which the caches of single sequences grow, in mlx-lm


class MemoryBudget:
    """Bytes of KV cache, shared by all models of the engine.

    ``evictors`` release at least the given number of bytes from caches, if they hold so much;
    they are called when a claim does not fit, and when the total becomes smaller. ``yielding``
    are requests in the background: they give up memory, as long as bytes are missing, for
    claims that take it from them, and when the total becomes smaller.
    """

    def __init__(self, total: int = 0):
        self._total = total
        self._bounds: dict[object, int] = {}
        self.evictors: list[Callable[[int], None]] = []
        self.yielding: list[Callable[[Callable[[], int]], None]] = []
        self._claims: dict[object, int] = {}

    @property
    def total(self) -> int:
        """The bytes of all claims together."""
        return min(self._total, *self._bounds.values()) if self._bounds else self._total

    def bound(self, owner: object, size: int) -> None:
        """Other machines hold ``size`` of these bytes at most, until ``owner`` is dropped."""
        self._bounds[owner] = min(size, self._bounds.get(owner, size))

    @property
    def claimed(self) -> int:
        """The bytes of all owners."""
        return sum(self._claims.values())

    @property
    def free(self) -> int:
        """The bytes that nobody has claimed."""
        return self.total - self.claimed

    def share(self, gigabytes: float | None) -> int:
        """The bytes of a part of the total: as configured, else a quarter."""
        return self.total // 4 if gigabytes is None else int(gigabytes * 1e9)

    def resize(self, total: int) -> None:
        """Set the total. What is claimed stays valid; only caches are evicted for it."""
        self._total = total
        self._release(lambda: self.claimed - self.total, displaces=True)

    def claimed_by(self, owner: object) -> int:
        """The bytes of ``owner``."""
        return self._claims.get(owner, 0)

    def drop(self, owner: object) -> None:
        """Forget ``owner``, which holds no memory any more."""
        self._claims.pop(owner, None)
        self._bounds.pop(owner, None)

    def claim(
        self, owner: object, size: int, *, evicts: bool = True, displaces: bool = False
    ) -> bool:
        """Set the bytes of ``owner`` to ``size``; False, and no change, if they do not fit.

        A claim that does not grow always fits. If it ``evicts``, it makes caches smaller; if
        it ``displaces`` as well, it takes the memory of requests in the background.
        """
        if size <= self._claims.get(owner, 0):
            self._claims[owner] = size
            return True
        if evicts:
            self._release(lambda: self._others(owner) + size - self.total, displaces=displaces)
        if self._others(owner) + size > self.total:
            return False
        self._claims[owner] = size
        return True

    def _release(self, missing: Callable[[], int], *, displaces: bool) -> None:
        def after_eviction() -> int:
            for evict in self.evictors:
                if (size := missing()) > 0:
                    evict(size)
            return missing()

        if after_eviction() > 0 and displaces:
            for give_up in self.yielding:
                give_up(after_eviction)  # rows that are given up become cached prefixes

    def _others(self, owner: object) -> int:
        return sum(size for holder, size in self._claims.items() if holder is not owner)


@dataclass(frozen=True)
class LayerSize:
    """The bytes of one layer's cache of one sequence."""

    fixed: int  # independent of the length
    per_token: int
    max_length: int  # tokens


@dataclass(frozen=True)
class CacheSizes:
    """What the KV caches of one model need. All sizes are in bytes.

    A step may write ``surplus`` more tokens than it keeps. ``chunk`` is the length of the
    longest prompt chunk, which a sliding window holds beside the window. ``is_shared`` is True
    if the rows of a batch share arrays, False if each keeps the cache of one sequence.
    """

    layers: tuple[LayerSize, ...]
    surplus: int = 0
    chunk: int = 0
    is_shared: bool = True

    def batch(self, rows: int, length: int, held: tuple[int, int] = (0, 0)) -> int:
        """The cache of a batch of ``rows`` rows, of which the longest has ``length`` tokens.

        ``held`` are the slots and positions that it has allocated already.
        """
        if not self.is_shared:
            return rows * self.own(length)
        return sum(self._batch_layers(rows, length, held, self.surplus))

    def copy(self, rows: int, length: int, held: tuple[int, int] = (0, 0)) -> int:
        """What a batch needs in addition, for a moment.

        One layer has two arrays when the batch grows or shrinks. A row has two copies when it
        moves to another slot.
        """
        if not self.is_shared:
            return self.own(length)  # all layers of a row grow in one pass
        layer = max(self._batch_layers(rows, length, held, self.surplus), default=0)
        row = sum(self._batch_layers(1, length, (0, 0), self.surplus)) if rows > 1 else 0
        return max(layer, row)

    def together(self, rows: int, length: int) -> int:
        """What prompts need in addition that are processed as one batch, and then copied."""
        width = max(self.surplus, self.chunk)
        batch = sum(self._batch_layers(rows, length, (0, 0), width))
        return batch + self.copy(rows, length) + self.own(length)

    def row(self, length: int) -> int:
        """A copy of the first ``length`` tokens of a row."""
        return sum(
            layer.fixed + layer.per_token * min(length, layer.max_length)
            for layer in self.layers
        )

    def uncut(self, length: int) -> int:
        """The part of a row in layers that cannot be cut: states and windows."""
        return sum(
            layer.fixed + layer.per_token * min(length, layer.max_length)
            for layer in self.layers
            if layer.fixed or layer.max_length < UNBOUNDED
        )

    def own(self, length: int) -> int:
        """The cache of one sequence of ``length`` tokens outside of a batch."""
        positions = length + _OWN_STEP
        return sum(
            layer.fixed + layer.per_token * min(positions, layer.max_length + self.chunk)
            for layer in self.layers
        )

    def _batch_layers(
        self, rows: int, length: int, held: tuple[int, int], surplus: int
    ) -> list[int]:
        """Each layer of a batch; a pass writes up to ``surplus`` tokens beside the first."""
        slots = max(num_slots(rows), held[0])
        positions = max(num_positions(length + self.surplus), held[1])
        return [
            slots * (layer.fixed + layer.per_token * min(positions, layer.max_length + surplus))
            for layer in self.layers
        ]


@mirrored
def measure_caches(
    model: nn.Module, bits: int | None = None, *, surplus: int = 0, chunk: int = 0
) -> CacheSizes:
    """The sizes of the caches of ``model``. Runs the model once on one token.

    Raises:
        ModelError: a layer's cache is not served, or a layer computes on a GPU alone.
    """
    cache = new_prompt_cache(model, bits)
    is_shared = is_batchable(model)
    try:
        evaluate(cache, model(mx.zeros((1, 1), mx.int32), cache=cache))
    except RuntimeError as error:
        if "[metal_kernel]" not in str(error):
            raise
        raise ModelError("some of its layers are Metal kernels, which need a GPU") from error
    sizes = tuple(_size_of(layer) for layer in flat_layers(cache))
    return CacheSizes(sizes, surplus, chunk, is_shared)


def _size_of(layer: Any) -> LayerSize:
    """The size of a layer's cache that holds one token."""
    if isinstance(layer, ArraysCache):
        return LayerSize(layer.nbytes, 0, UNBOUNDED)
    if is_plain(layer):
        return LayerSize(0, sum(array.nbytes for array in arrays_of(layer)), UNBOUNDED)
    keys, values = layer.keys_and_values()
    return LayerSize(0, (keys.nbytes + values.nbytes) // keys.shape[2], max_length_of(layer))


def max_length_of(layer: LayerCache) -> int:
    """The tokens that a layer keeps of a long sequence, between two passes."""
    if isinstance(layer, RotatingKVCache):
        return layer.max_size
    if isinstance(layer, ChunkedKVCache):
        return layer.chunk_size + _OWN_STEP  # cut when the next pass starts
    return UNBOUNDED
