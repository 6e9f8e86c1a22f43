"""The keys and values of the last tokens of a layer: a sliding window.

The keys (and the values) of a layer are one array [S, H, C, D]: S slots and C positions. They
grow as those of ``plain`` do, until C is the size of a ring: then position p of a row is at
p % C. The ring is longer than the window by the tokens that one pass may write in addition to
the first one, so that no pass overwrites a key that it needs, nor do draft tokens that are
rejected.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import RotatingKVCache

from mlxnode.engine.kvcache.prompt_cache import Arrays
from mlxnode.engine.kvcache.slots import Slots, num_positions, num_slots, shrunk


class WindowCache:
    """The last keys and values of one layer, with the interface of mlx-lm's caches."""

    is_replaced = False

    def __init__(self, slots: Slots, like: RotatingKVCache, width: int):
        """``width`` is the largest number of tokens that a pass writes to a row."""
        self.slots = slots
        self.is_halfway = False  # True for the layer in the middle of the model
        self.window = like.max_size
        self.ring = like.max_size + width - 1
        self._arrays: Arrays = ()
        self._positions = 0  # what ``plain`` would have allocated
        self._fetched = 0, 0  # rows and positions that the last pass read

    @property
    def state(self) -> Arrays:
        """All keys and values, [S, H, C, D] each."""
        return self._arrays

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    @property
    def offset(self) -> int | mx.array:
        """The position of the next token: of all rows, or of each row, [B]."""
        return self.slots.offset

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots, and the positions that a layer without a window would have."""
        return (self._arrays[0].shape[0], self._positions) if self._arrays else (0, 0)

    # --- what the model calls -------------------------------------------------------

    @property
    def keys(self) -> mx.array:
        """All keys, [S, H, C, D]. A model may make them depend on other arrays."""
        return self._arrays[0]

    @keys.setter
    def keys(self, keys: mx.array) -> None:
        self._arrays = (keys, *self._arrays[1:])

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | None:
        """The keys that the next ``N`` tokens attend to, bool [B, 1, N, T]; None for all."""
        window = min(window_size or self.window, self.window)
        return self.slots.once(
            ("ring mask", N, window, self.ring), lambda: self._make_mask(N, window)
        )

    def _make_mask(self, N: int, window: int) -> mx.array | None:
        lengths = np.array(self.slots.lengths, np.int32)[:, None]  # [B, 1]
        T = min(self.slots.longest + N, self.ring)
        last = lengths + N - 1
        held = last - (last - np.arange(T)) % self.ring  # the position of each key, [B, T]
        at = lengths + np.arange(N)  # [B, N]
        held, at = held[:, None, None, :], at[:, None, :, None]
        mask = (held >= 0) & (held <= at) & (held > at - window)
        return None if N == 1 and mask.all() else mx.array(mask)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append ``keys`` and ``values``, [B, H, N, D]; return the ring, [B, H, T, D]."""
        B, _, N, _ = keys.shape
        if self.window + N - 1 > self.ring:
            room = self.ring - self.window + 1
            raise ValueError(f"a pass writes at most {room} tokens to a row, got {N}")
        if self.is_halfway:
            self.slots.halfway = keys
        first, length = self.slots.shortest, self.slots.longest + N
        self._reserve(B, length, (keys, values))
        start = first % self.ring
        is_one_slice = first + N == length and start + N <= self.ring
        for mine, new in zip(self._arrays, (keys, values), strict=True):
            if is_one_slice:
                mine[:B, :, start : start + N] = new
            else:
                mine[self.slots.targets(new.shape[1], N, self.ring)] = new
        self._fetched = B, min(length, self.ring)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """The ring as the last pass read it: layers may share it."""
        B, T = self._fetched
        keys, values = (array[:B, :, :T] for array in self._arrays)
        return keys, values

    # --- what the batch calls -------------------------------------------------------

    def join(self, caches: Sequence[RotatingKVCache], lengths: Sequence[int]) -> None:
        """Write the windows of single sequences into the next free slots."""
        rows = [_window_of(cache) for cache in caches]
        first = len(self.slots.lengths)
        if (like := next((row for row in rows if row), None)) is None:
            return  # no prompt has been processed yet
        self._reserve(first + len(rows), max(*lengths, self.slots.longest), like)
        for slot, (row, length) in enumerate(zip(rows, lengths, strict=True), first):
            for mine, array in zip(self._arrays, row, strict=False):
                done = 0
                for start, end in self._parts(length - array.shape[2], length):
                    part = array[:, :, done : done + end - start]
                    mine[slot : slot + 1, :, start:end] = part
                    done += end - start

    def grow(self, rows: int, length: int) -> None:
        if self._arrays:
            self._reserve(rows, length, self._arrays)

    def shrink(self, rows: int, length: int) -> None:
        if not self._arrays:
            return
        slots, _, size, _ = self._arrays[0].shape
        slots = shrunk(slots, num_slots(rows))
        self._positions = shrunk(self._positions, num_positions(length))
        shape = slots, min(self._positions, size)
        if shape != self._arrays[0].shape[::2]:
            self._arrays = tuple(
                mx.contiguous(array[:slots, :, : shape[1]]) for array in self._arrays
            )
            mx.eval(self._arrays)  # releases the old arrays before the next layer is copied

    def read(self, slot: int, length: int) -> Arrays:
        size = min(length, self.ring)
        return tuple(mx.contiguous(array[slot : slot + 1, :, :size]) for array in self._arrays)

    def write(self, slot: int, row: Arrays) -> None:
        for mine, array in zip(self._arrays, row, strict=False):
            mine[slot : slot + 1, :, : array.shape[2]] = array

    def extract(self, slot: int, length: int) -> RotatingKVCache:
        cache, length = RotatingKVCache(self.window), self.slots.lengths[slot]
        if length and self._arrays:
            parts = self._parts(max(length - self.window, 0), length)
            cache.keys, cache.values = (
                _copied([array[slot : slot + 1, :, start:end] for start, end in parts])
                for array in self._arrays
            )
            cache._idx = cache.keys.shape[2]
        cache.offset = length
        return cache

    def _parts(self, first: int, end: int) -> list[tuple[int, int]]:
        """Where the positions from ``first`` to ``end`` are in the ring: one or two slices."""
        if first == end:
            return []
        start, stop = first % self.ring, (end - 1) % self.ring + 1
        return [(start, stop)] if start < stop else [(start, self.ring), (0, stop)]

    def _reserve(self, rows: int, length: int, like: Sequence[mx.array]) -> None:
        """Grow the arrays to at least ``rows`` slots and ``length`` positions."""
        before = self._arrays
        old_slots, old_size = before[0].shape[::2] if before else (0, 0)
        slots = max(num_slots(rows), old_slots)
        self._positions = max(num_positions(length), self._positions)
        size = max(min(self._positions, self.ring), old_size)
        if (slots, size) == (old_slots, old_size):
            return
        if not before:
            self._arrays = tuple(_zeros(array, slots, size) for array in like)
            return
        self._arrays = tuple(_enlarged(array, slots, size) for array in before)
        del before
        mx.eval(self._arrays)  # releases the old arrays before the next layer is copied


def _zeros(like: mx.array, slots: int, size: int) -> mx.array:
    _, H, _, D = like.shape
    return mx.zeros((slots, H, size, D), like.dtype)


def _enlarged(array: mx.array, slots: int, size: int) -> mx.array:
    old_slots, _, old_size, _ = array.shape
    return mx.pad(array, [(0, slots - old_slots), (0, 0), (0, size - old_size), (0, 0)])


def _window_of(cache: RotatingKVCache) -> Arrays:
    """The last keys and values of one sequence in order, [1, H, n, D]; nothing if empty."""
    if cache.keys is None:
        return ()
    size = min(cache.offset, cache.max_size)
    return tuple(
        cache._temporal_order(array)[..., -size:, :] for array in (cache.keys, cache.values)
    )


def _copied(parts: list[mx.array]) -> mx.array:
    return mx.contiguous(parts[0]) if len(parts) == 1 else mx.concatenate(parts, axis=2)
