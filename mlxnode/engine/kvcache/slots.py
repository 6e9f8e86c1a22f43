"""The slots of a batch: the keys and values of its rows, written and read in place.

The keys (and the values) of a layer are one array [S, H, C, D]: S slots, of which the first B
hold the rows of the batch, left-aligned, and C positions. The arrays grow in steps. They shrink
when half of the slots or positions are enough.

MLX writes into an array in place only if nothing else refers to its memory; otherwise it copies
the whole array. Work that is launched and not complete refers to it. docs/kv-updates.md says
when, and what ``decode/batch.py`` does about it.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.prompt_cache import (
    Arrays,
    PlainCache,
    arrays_of,
    keys_and_values,
    plain_cache,
    quantization_of,
)

_POSITION_STEP = 128  # positions by which the arrays grow
_SLOT_STEP = 4  # slots by which the arrays grow


class Slots:
    """The state that all layers of a batch share: the length of each row.

    The host knows the lengths, so no layer has to read them from the device.
    """

    def __init__(self) -> None:
        self.lengths = []
        # The new keys of the layer in the middle: they need all layers before it, and no other.
        self.halfway: mx.array | None = None

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each row."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.longest = max(lengths, default=0)
        self.shortest = min(lengths, default=0)
        # Computed once for all layers of a step.
        self._offsets: mx.array | None = None
        self._masks: dict[tuple[int, int | None], mx.array] = {}
        self._targets: dict[tuple[int, int], tuple[mx.array, ...]] = {}

    @property
    def offsets(self) -> mx.array:
        """The position of the next token of each row, [B]."""
        if self._offsets is None:
            self._offsets = mx.array(self.lengths, mx.int32)
        return self._offsets

    def targets(self, heads: int, count: int) -> tuple[mx.array, ...]:
        """The slots, heads and positions of the next tokens of each row, [B, H, count] each.

        They index the cache of a layer, and no layer has to compute or convert them again.
        """
        if (heads, count) not in self._targets:
            shape = len(self.lengths), heads, count
            indices = np.indices(shape, np.uint32)
            indices[2] += np.array(self.lengths, np.uint32)[:, None, None]
            self._targets[heads, count] = tuple(map(mx.array, indices))
        return self._targets[heads, count]

    def mask(self, count: int, window: int | None) -> mx.array:
        """The positions that the next ``count`` tokens attend to, bool [B, 1, count, T]."""
        if (count, window) not in self._masks:
            at = (self.offsets[:, None] + mx.arange(count))[:, None, :, None]
            positions = mx.arange(self.longest + count)
            mask = positions <= at
            if window is not None:
                mask = mask & (positions > at - window)
            self._masks[count, window] = mask
        return self._masks[count, window]

    def is_causal(self, mask: Any) -> bool:
        """True if the mask is plain causal (no sliding window)."""
        return any(known is mask and key[1] is None for key, known in self._masks.items())


class SlotCache:
    """The keys and values of one layer, with the interface of mlx-lm's caches."""

    def __init__(self, slots: Slots, like: PlainCache):
        self.slots = slots
        self.is_halfway = False  # True for the layer in the middle of the model
        self._arrays: Arrays = ()
        if (quantization := quantization_of(like)) is not None:
            self.group_size, self.bits = quantization.group_size, quantization.bits

    @property
    def is_quantized(self) -> bool:
        return quantization_of(self) is not None

    @property
    def state(self) -> Arrays:
        """All keys and values, [S, H, C, D] each."""
        return self._arrays

    @property
    def offset(self) -> mx.array:
        """The position of the next token of each row, [B]."""
        return self.slots.offsets

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        return self.slots.mask(N, window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Append ``keys`` and ``values``, [B, H, N, D]; return all of them, [B, H, T, D]."""
        B, _, N, _ = keys.shape
        if self.is_halfway:
            self.slots.halfway = keys
        arrays: Arrays = (keys, values)
        if (quantization := quantization_of(self)) is not None:
            arrays = tuple(
                part
                for array in arrays
                for part in mx.quantize(
                    array, group_size=quantization.group_size, bits=quantization.bits
                )
            )
        first, length = self.slots.shortest, self.slots.longest + N
        self._reserve(B, length, arrays)
        for mine, new in zip(self._arrays, arrays, strict=True):
            if first + N == length:
                mine[:B, :, first:length] = new
            else:
                mine[self.slots.targets(new.shape[1], N)] = new
        return keys_and_values([array[:B, :, :length] for array in self._arrays])

    def join(self, caches: Sequence[PlainCache], lengths: Sequence[int]) -> None:
        """Write layer caches of single sequences into the next free slots."""
        rows = [arrays_of(cache) for cache in caches]
        first = len(self.slots.lengths)
        like = next((row for row in rows if row), None)
        if like is None:
            return  # all prompts have one token, which is not processed yet
        self._reserve(first + len(rows), max(*lengths, self.slots.longest), like)
        for i, row in enumerate(rows):
            self.write(first + i, row)

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots and the positions that are allocated."""
        if not self._arrays:
            return 0, 0
        slots, _, capacity, _ = self._arrays[0].shape
        return slots, capacity

    def grow(self, rows: int, length: int) -> None:
        """Allocate ``rows`` slots and ``length`` positions now, if there are fewer."""
        if self._arrays:
            self._reserve(rows, length, self._arrays)

    def shrink(self, rows: int, length: int) -> None:
        """Release memory if half of the slots or of the positions are enough."""
        if not self._arrays:
            return
        slots, _, capacity, _ = self._arrays[0].shape
        if 2 * num_slots(rows) <= slots:
            slots = num_slots(rows)
        if 2 * num_positions(length) <= capacity:
            capacity = num_positions(length)
        if (slots, capacity) != self._arrays[0].shape[::2]:
            self._arrays = tuple(
                mx.contiguous(array[:slots, :, :capacity]) for array in self._arrays
            )
            mx.eval(self._arrays)  # releases the old arrays before the next layer is copied

    def read(self, slot: int, length: int) -> Arrays:
        """A copy of the first ``length`` positions of a slot, [1, H, length, D] each."""
        return tuple(
            mx.contiguous(array[slot : slot + 1, :, :length]) for array in self._arrays
        )

    def write(self, slot: int, row: Arrays) -> None:
        """Write keys and values, [1, H, length, D] each, to the start of a slot."""
        for mine, array in zip(self._arrays, row, strict=False):
            mine[slot : slot + 1, :, : array.shape[2]] = array

    def extract(self, slot: int, length: int) -> PlainCache:
        """A copy of the first ``length`` positions of a slot, as the cache of one sequence."""
        return plain_cache(self.read(slot, length), length, like=self)

    def _reserve(self, rows: int, length: int, like: Arrays) -> None:
        """Grow the arrays to at least ``rows`` slots and ``length`` positions."""
        slots, capacity = num_slots(rows), num_positions(length)
        before = self._arrays or tuple(
            mx.zeros((0, array.shape[1], 0, array.shape[3]), array.dtype) for array in like
        )
        old_slots, _, old_capacity, _ = before[0].shape
        if old_slots >= slots and old_capacity >= capacity:
            return
        shape = max(slots, old_slots), max(capacity, old_capacity)
        self._arrays = tuple(_enlarged(array, *shape) for array in before)
        if old_slots:
            del before
            mx.eval(self._arrays)  # releases the old arrays before the next layer is copied


def _enlarged(array: mx.array, slots: int, capacity: int) -> mx.array:
    old_slots, H, old_capacity, D = array.shape
    if array.size == 0:
        return mx.zeros((slots, H, capacity, D), array.dtype)
    return mx.pad(array, [(0, slots - old_slots), (0, 0), (0, capacity - old_capacity), (0, 0)])


def num_slots(rows: int) -> int:
    """The slots that a batch of ``rows`` rows allocates."""
    return rows if rows <= 2 else -(-rows // _SLOT_STEP) * _SLOT_STEP


def num_positions(length: int) -> int:
    """The positions that a row of ``length`` tokens allocates."""
    return -(-length // _POSITION_STEP) * _POSITION_STEP
