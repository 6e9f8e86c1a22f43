"""The states of a layer: of a fixed size, however long the sequence is.

A state of all rows is one array [S, ...] with S >= B. The model replaces it in each pass by an
array of B rows, so that no free slot outlives a pass. A row that leaves is replaced by the last
row, in place; a row that joins in the same step takes the slot that got free. A batch that
becomes larger copies its states once, which a decode step does anyway.
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache

from mlxnode.engine.kvcache.prompt_cache import Arrays
from mlxnode.engine.kvcache.slots import Slots


class StatesCache(ArraysCache):
    """The states of one layer. mlx-lm's models ask for the class of their caches."""

    is_replaced = True

    def __init__(self, slots: Slots, like: ArraysCache):
        super().__init__(len(like.cache))
        self.slots = slots
        self.is_halfway = False  # unused: nothing is written in place

    # --- what the model calls -------------------------------------------------------

    def __getitem__(self, idx: int) -> mx.array | None:
        """A state of each row, [B, ...]; None before the first token."""
        state, rows = self.cache[idx], len(self.slots.lengths)
        return state if state is None or state.shape[0] == rows else state[:rows]

    @property
    def lengths(self) -> mx.array | None:
        """How many of the tokens of each row are no padding, [B]; None: all."""
        return self.slots.counts

    @lengths.setter
    def lengths(self, lengths: None) -> None:
        """Called by the base class."""

    def advance(self, N: int) -> None:
        """The batch counts the tokens of its rows."""

    # --- what the batch calls -------------------------------------------------------

    @property
    def capacity(self) -> tuple[int, int]:
        return max((len(s) for s in self.cache if s is not None), default=0), 0

    def join(self, caches: Sequence[ArraysCache], lengths: Sequence[int]) -> None:
        first = len(self.slots.lengths)
        self.cache = [
            _joined(state, [cache.cache[i] for cache in caches], first)
            for i, state in enumerate(self.cache)
        ]

    def grow(self, rows: int, length: int) -> None:
        """Nothing: the model allocates the states of the next pass."""

    def shrink(self, rows: int, length: int) -> None:
        """Nothing: the next pass replaces the states."""

    def read(self, slot: int, length: int) -> Arrays:
        return tuple(
            mx.contiguous(state[slot : slot + 1]) for state in self.cache if state is not None
        )

    def write(self, slot: int, row: Arrays) -> None:
        states = (state for state in self.cache if state is not None)
        for state, array in zip(states, row, strict=True):
            state[slot : slot + 1] = array

    def extract(self, idx: int, length: int = 0) -> ArraysCache:
        """A copy of the states of a row. They have no ``length``: all tokens are in them."""
        cache = ArraysCache(len(self.cache))
        for i, state in enumerate(self.cache):
            if state is not None:
                cache[i] = mx.contiguous(state[idx : idx + 1])
        return cache


def _joined(
    state: mx.array | None, rows: Sequence[mx.array | None], first: int
) -> mx.array | None:
    """``state`` with ``rows``, [1, ...] each, from the slot ``first`` on.

    A row of None is the state before the first token: zeros.
    """
    like = next((row for row in (state, *rows) if row is not None), None)
    if like is None:
        return None
    filled = [mx.zeros((1, *like.shape[1:]), like.dtype) if r is None else r for r in rows]
    if state is not None and first + len(rows) <= state.shape[0]:
        for slot, row in enumerate(filled, first):
            state[slot : slot + 1] = row
        return state
    if first:
        before = mx.zeros((first, *like.shape[1:]), like.dtype) if state is None else state
        filled.insert(0, before[:first])
    # Not the array of the row itself: a cached prefix may have it, and slots are written to.
    return mx.contiguous(filled[0]) if len(filled) == 1 else mx.concatenate(_aligned(filled))


def _aligned(rows: list[mx.array]) -> list[mx.array]:
    """``rows`` of one shape. The last inputs of a short prompt follow zeros, as in models."""
    shape = [max(sizes) for sizes in zip(*(row.shape[1:] for row in rows), strict=True)]
    if all(list(row.shape[1:]) == shape for row in rows):
        return rows
    return [
        mx.pad(
            row,
            [(0, 0), *((n - size, 0) for n, size in zip(shape, row.shape[1:], strict=True))],
        )
        for row in rows
    ]
