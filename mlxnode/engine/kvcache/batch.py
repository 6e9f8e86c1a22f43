"""The KV cache of a batch: rows join and leave without a copy of the other rows.

A request prefills into a cache of its own (mlx-lm's caches of single sequences) and then joins
the batch: its row is written into the next free slot of each layer (``layers``). When a row
leaves, the last row moves into its slot.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn

from mlxnode.engine.kvcache.layers.combined import nested
from mlxnode.engine.kvcache.layers.factory import new_layers
from mlxnode.engine.kvcache.layers.layer import BatchLayer
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    SequenceCache,
    evaluate,
    flat_layers,
    num_tokens,
)
from mlxnode.engine.kvcache.slots import Slots
from mlxnode.engine.mirror import Mirrored, mirrored


class BatchCache(Mirrored):
    """One cache object for each layer. Each holds all rows of the batch, in the same order."""

    def __init__(self, width: int = 1):
        """``width`` is the largest number of tokens that a pass writes to a row."""
        self.layers: list[Any] = []  # as the model takes them
        self._parts: list[BatchLayer] = []  # the same, and those inside of combined ones
        self._slots = Slots()
        self._width = width
        self.logits: Any = None  # of a step that is launched in part, [B, V]

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each row."""
        return self._slots.lengths

    @mirrored
    def join(self, caches: Sequence[PromptCache], lengths: Sequence[int] | None = None) -> None:
        """Append the caches of single sequences as rows.

        ``lengths`` are the tokens in each of them; states alone do not tell.
        """
        new = list(map(num_tokens, caches)) if lengths is None else list(lengths)
        if not self.layers:
            self.layers, self._parts = new_layers(caches[0], self._slots, self._width)
            if in_place := self._in_place:
                in_place[len(in_place) // 2].is_halfway = True
        self._grow(len(self.lengths) + len(new), max(*new, self._slots.longest))
        columns = zip(*map(flat_layers, caches), strict=True)
        for part, column in zip(self._parts, columns, strict=True):
            part.join(column, new)
        self._slots.lengths = self._slots.lengths + new

    @mirrored
    def leave(self, indices: Sequence[int]) -> list[int]:
        """Remove the rows at ``indices``; return the former index of each remaining row."""
        kept = compacted(len(self._slots.lengths), indices)
        moved = [(old, new) for new, old in enumerate(kept) if old != new]
        for old, new in moved:
            # A row is read before it is written: MLX writes into an array in place only if no
            # other array refers to a part of it. It would copy the whole array otherwise.
            row = [part.read(old, self._slots.lengths[old]) for part in self._parts]
            mx.eval(row)
            for part, arrays in zip(self._parts, row, strict=True):
                part.write(new, arrays)
        self._slots.lengths = [self._slots.lengths[i] for i in kept]
        if not kept:
            self.layers, self._parts = [], []
        for part in self._parts:
            part.shrink(len(kept), self._slots.longest)
        return kept

    def run(
        self, model: nn.Module, tokens: mx.array, counts: Sequence[int] | None = None
    ) -> mx.array:
        """The logits [B, N, V] of the next ``tokens`` [B, N] of each row.

        ``counts`` are the tokens of each row that are no padding, if there is padding.
        """
        self._slots.counts = None if counts is None else mx.array([*counts])
        logits = model(tokens, cache=self.layers)
        self._slots.counts = None
        return logits

    @property
    def halfway(self) -> mx.array | None:
        """What the first half of the last forward pass computes; None if no layer tells."""
        return self._slots.halfway

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots and the positions that are allocated, however few of them are in use."""
        held = [part.capacity for part in self._parts] or [(0, 0)]
        return max(slots for slots, _ in held), max(positions for _, positions in held)

    def reserve(self, count: int) -> None:
        """Allocate the positions of the next ``count`` tokens of each row.

        A layer that grew during the forward pass would have its old arrays as long as that
        pass is under way.
        """
        self._grow(len(self.lengths), self._slots.longest + count)

    def _grow(self, rows: int, length: int) -> None:
        for part in self._parts:
            part.grow(rows, length)

    @property
    def can_rewind(self) -> bool:
        """True if the model may run on more tokens of a row than are kept."""
        return len(self._in_place) == len(self._parts)

    @mirrored
    def advance(self, counts: Sequence[int]) -> None:
        """Keep the next ``counts`` tokens of each row, which the model has run on."""
        lengths = zip(self._slots.lengths, counts, strict=True)
        self._slots.lengths = [length + count for length, count in lengths]

    @mirrored
    def extract(self, index: int, length: int) -> PromptCache:
        """A copy of the first ``length`` tokens of a row, as the cache of one sequence.

        Layers that cannot be cut are copied at the current length of the row.
        """
        parts = (part.extract(index, length) for part in self._parts)
        row = SequenceCache(nested(parts, like=self.layers))
        evaluate(row)
        return row

    @property
    def _in_place(self) -> list[BatchLayer]:
        return [part for part in self._parts if not part.is_replaced]


@mirrored
def new_batch(caches: Sequence[PromptCache], lengths: Sequence[int], width: int) -> BatchCache:
    """A batch of the caches of single sequences, each with its tokens, for one pass."""
    batch = BatchCache(width)
    batch.join(caches, lengths)
    return batch


def compacted(count: int, leaving: Sequence[int]) -> list[int]:
    """The indices of the remaining rows: the last rows move to the indices that get free."""
    rows = list(range(count))
    for index in sorted(leaving, reverse=True):
        rows[index] = rows[-1]
        rows.pop()
    return rows
