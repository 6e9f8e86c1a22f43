"""The KV cache of a batch: rows join and leave without a copy of the other rows.

A request prefills into a cache of its own (mlx-lm's caches of single sequences) and then joins
the batch: its keys and values are written into the next free slot (``layers``). When a row
leaves, the last row moves into its slot.

Layers with other caches (sliding windows, states) use mlx-lm's batch caches, which are copied
when rows join or leave.
"""

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache

from mlxnode.engine.kvcache.layers.plain import SlotCache
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    evaluate,
    is_plain,
    num_tokens,
)
from mlxnode.engine.kvcache.slots import Slots


class BatchCache:
    """One cache object for each layer. Each holds all rows of the batch, in the same order."""

    def __init__(self) -> None:
        self.layers: list[Any] = []  # SlotCache, or a batch cache of mlx-lm
        self._slots = Slots()

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each row."""
        return self._slots.lengths

    def join(self, caches: Sequence[PromptCache]) -> None:
        """Append the caches of single sequences as rows."""
        is_empty = not self.layers
        lengths = [num_tokens(cache) for cache in caches]
        self._grow(len(self.lengths) + len(lengths), max(*lengths, self._slots.longest))
        joined = []
        for i, like in enumerate(caches[0]):
            rows: list[Any] = [cache[i] for cache in caches]
            if is_plain(like):
                layer = SlotCache(self._slots, like) if is_empty else self.layers[i]
                layer.join(rows, lengths)
            else:
                layer = rows[0].merge(rows)
                if not is_empty:
                    self.layers[i].extend(layer)
                    layer = self.layers[i]
            joined.append(layer)
        self.layers = joined
        self._slots.lengths = self._slots.lengths + lengths
        if is_empty and (layers := self._slot_layers):
            layers[len(layers) // 2].is_halfway = True

    def leave(self, indices: Sequence[int]) -> list[int]:
        """Remove the rows at ``indices``; return the former index of each remaining row."""
        kept = _compacted(len(self._slots.lengths), indices)
        if not kept:
            self.layers = []
            self._slots.lengths = []
            return kept
        moved = [(old, new) for new, old in enumerate(kept) if old != new]
        for layer in self.layers:
            if not isinstance(layer, SlotCache):
                layer.filter(kept)
        for old, new in moved:
            # A row is read before it is written: MLX writes into an array in place only if no
            # other array refers to a part of it. It would copy the whole array otherwise.
            row = [layer.read(old, self._slots.lengths[old]) for layer in self._slot_layers]
            mx.eval(row)
            for layer, arrays in zip(self._slot_layers, row, strict=True):
                layer.write(new, arrays)
        self._slots.lengths = [self._slots.lengths[i] for i in kept]
        for layer in self._slot_layers:
            layer.shrink(len(kept), self._slots.longest)
        return kept

    @property
    def halfway(self) -> mx.array | None:
        """What the first half of the last forward pass computes; None if no layer tells."""
        return self._slots.halfway

    @property
    def has_windows(self) -> bool:
        """True if other layers than slots write in place; states are replaced as a whole."""
        return any(not isinstance(layer, SlotCache | ArraysCache) for layer in self.layers)

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots and the positions that are allocated, however few of them are in use."""
        return next((layer.capacity for layer in self._slot_layers), (len(self.lengths), 0))

    def reserve(self, count: int) -> None:
        """Allocate the positions of the next ``count`` tokens of each row.

        A layer that grew during the forward pass would have its old arrays as long as that
        pass is under way.
        """
        self._grow(len(self.lengths), self._slots.longest + count)

    def _grow(self, rows: int, length: int) -> None:
        for layer in self._slot_layers:
            layer.grow(rows, length)

    @property
    def can_rewind(self) -> bool:
        """True if the model may run on more tokens of a row than are kept."""
        return len(self._slot_layers) == len(self.layers)

    def advance(self, counts: Sequence[int]) -> None:
        """Keep the next ``counts`` tokens of each row, which the model has run on."""
        lengths = zip(self._slots.lengths, counts, strict=True)
        self._slots.lengths = [length + count for length, count in lengths]

    def extract(self, index: int, length: int) -> PromptCache | None:
        """A copy of the first ``length`` tokens of a row.

        Layers that cannot be cut are copied as they are, at the current length of the row.
        """
        row: list[Any] = [
            layer.extract(index, length)
            if isinstance(layer, SlotCache)
            else copy.deepcopy(layer.extract(index))
            for layer in self.layers
        ]
        evaluate(row)
        return row

    @property
    def _slot_layers(self) -> list[SlotCache]:
        return [layer for layer in self.layers if isinstance(layer, SlotCache)]


def _compacted(count: int, leaving: Sequence[int]) -> list[int]:
    """The indices of the remaining rows: the last rows move to the indices that get free."""
    rows = list(range(count))
    for index in sorted(leaving, reverse=True):
        rows[index] = rows[-1]
        rows.pop()
    return rows
