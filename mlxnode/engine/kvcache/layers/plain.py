"""The keys and values of all tokens of a layer, written and read in place.

The keys (and the values) of a layer are one array [S, H, C, D]: S slots and C positions
(``kvcache/slots.py``). The arrays shrink when half of the slots or positions are enough.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxnode.engine.kvcache.prompt_cache import (
    Arrays,
    PlainCache,
    arrays_of,
    keys_and_values,
    plain_cache,
    quantization_of,
)
from mlxnode.engine.kvcache.slots import Mask, Slots, num_positions, num_slots, shrunk


class SlotCache:
    """The keys and values of one layer, with the interface of mlx-lm's caches."""

    is_replaced = False

    def __init__(self, slots: Slots, like: PlainCache):
        self.slots = slots
        self.is_halfway = False  # True for the layer in the middle of the model
        self._arrays: Arrays = ()
        self._fetched = 0, 0  # rows and positions that the last pass read
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
    def offset(self) -> int | mx.array:
        """The position of the next token: of all rows, or of each row, [B]."""
        return self.slots.offset

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> Mask:
        return self.slots.mask(N, window_size, as_array=return_array)

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
            if new.size == 0:
                continue  # a model that caches keys alone; MLX divides by the size in a scatter
            if first + N == length:
                mine[:B, :, first:length] = new
            else:
                mine[self.slots.targets(new.shape[1], N)] = new
        self._fetched = B, length
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Any, Any]:
        """All keys and values as the last pass read them: layers may share them."""
        B, length = self._fetched
        return keys_and_values([array[:B, :, :length] for array in self._arrays])

    @property
    def keys(self) -> mx.array:
        """All keys, [S, H, C, D]. A model may make them depend on other arrays."""
        return self._arrays[0]

    @keys.setter
    def keys(self, keys: mx.array) -> None:
        self._arrays = (keys, *self._arrays[1:])

    @property
    def values(self) -> mx.array:
        """All values, [S, H, C, D]. A model that uses none may replace them."""
        return self._arrays[1]

    @values.setter
    def values(self, values: mx.array) -> None:
        self._arrays = (self._arrays[0], values)

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
        slots, capacity = self.capacity
        slots = shrunk(slots, num_slots(rows))
        capacity = shrunk(capacity, num_positions(length))
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
        old_slots, old_capacity = self.capacity
        if rows <= old_slots and length <= old_capacity:
            return  # nearly always: each layer asks twice a step
        slots, capacity = num_slots(rows), num_positions(length)
        before = self._arrays or tuple(
            mx.zeros((0, array.shape[1], 0, array.shape[3]), array.dtype) for array in like
        )
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
