"""The slots of a batch: keys and values of its rows, written and taken out in place.

Keys and values of a layer lie in one array [S, H, C, D]: S slots, of which the first B hold the
rows of the batch, left-aligned, and C positions. Arrays grow by steps, and shrink when half of
them would do.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, QuantizedKVCache

_PAGE = 128  # positions by which slots grow
_SLOTS = 4  # slots by which a batch grows

Arrays = tuple[mx.array, ...]  # keys and values, each quantized one as three arrays


class Slots:
    """What the layers of a batch share: how long each of its rows is.

    Lengths are known to the host, so that nothing has to be read back from the device.
    """

    def __init__(self) -> None:
        self.lengths = []

    @property
    def lengths(self) -> list[int]:
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.longest = max(lengths, default=0)
        self._offsets: mx.array | None = None
        self._masks: dict[tuple[int, int | None], mx.array] = {}
        self._places: dict[int, tuple[mx.array, mx.array]] = {}

    @property
    def offsets(self) -> mx.array:
        """The position of each row's next token, [B]."""
        if self._offsets is None:
            self._offsets = mx.array(self.lengths, mx.int32)
        return self._offsets

    def places(self, count: int) -> tuple[mx.array, mx.array]:
        """Slots [B, 1] and positions [B, count] of that many new tokens of each row."""
        if count not in self._places:
            rows = mx.arange(len(self.lengths))[:, None]
            self._places[count] = rows, self.offsets[:, None] + mx.arange(count)
        return self._places[count]

    def mask(self, count: int, window: int | None) -> mx.array:
        """Which positions each of ``count`` new tokens may see, bool [B, 1, count, T]."""
        if (count, window) not in self._masks:
            at = self.places(count)[1][:, None, :, None]
            positions = mx.arange(self.longest + count)
            mask = positions <= at
            if window is not None:
                mask = mask & (positions > at - window)
            self._masks[count, window] = mask
        return self._masks[count, window]

    def is_plain(self, mask: Any) -> bool:
        """Whether ``mask`` hides nothing but what is not there."""
        return any(known is mask and key[1] is None for key, known in self._masks.items())


class SlotCache:
    """Keys and values of one layer, in the form in which mlx-lm's models use caches."""

    def __init__(self, slots: Slots, like: KVCache | QuantizedKVCache):
        self.slots = slots
        self._arrays: Arrays = ()
        if isinstance(like, QuantizedKVCache):
            # mlx-lm tells by these attributes that keys and values are quantized.
            self.group_size, self.bits = like.group_size, like.bits

    @property
    def is_quantized(self) -> bool:
        return hasattr(self, "bits")

    @property
    def offset(self) -> mx.array:
        """The position of each row's next token, [B]."""
        return self.slots.offsets

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        return self.slots.mask(N, window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Take new ``keys`` and ``values``, [B, H, N, D]; returns all of them, [B, H, T, D]."""
        batch, _, count, _ = keys.shape
        arrays: Arrays = (keys, values)
        if self.is_quantized:
            arrays = tuple(
                part
                for array in arrays
                for part in mx.quantize(array, group_size=self.group_size, bits=self.bits)
            )
        length = self.slots.longest + count
        self._reserve(batch, length, arrays)
        rows, positions = self.slots.places(count)
        for mine, new in zip(self._arrays, arrays, strict=True):
            mine[rows, :, positions] = new.swapaxes(1, 2)
        return _halves([array[:batch, :, :length] for array in self._arrays])

    def join(self, caches: Sequence[Any], lengths: Sequence[int]) -> None:
        """Write single-row caches of these lengths into the slots behind those in use."""
        rows = [arrays_of(cache) for cache in caches]
        first = len(self.slots.lengths)
        like = next((row for row in rows if row), None)
        if like is None:
            return  # prompts of one token, which is yet to come
        self._reserve(first + len(rows), max(*lengths, self.slots.longest), like)
        for i, row in enumerate(rows):
            self.write(first + i, row)

    def shrink(self, rows: int, length: int) -> None:
        """Give memory back if half of the slots or of the positions would do for the batch."""
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
            mx.eval(self._arrays)  # the whole is free before another layer is copied

    def read(self, slot: int, length: int) -> Arrays:
        """A copy of the first ``length`` positions of a slot, [1, H, length, D] each."""
        return tuple(
            mx.contiguous(array[slot : slot + 1, :, :length]) for array in self._arrays
        )

    def write(self, slot: int, row: Arrays) -> None:
        for mine, array in zip(self._arrays, row, strict=False):
            mine[slot : slot + 1, :, : array.shape[2]] = array

    def extract(self, slot: int, length: int) -> KVCache | QuantizedKVCache:
        return cache_like(self, self.read(slot, length), length)

    def _reserve(self, rows: int, length: int, like: Arrays) -> None:
        """Have room for that many rows of that length."""
        slots, capacity = num_slots(rows), num_positions(length)
        has = self._arrays[0].shape if self._arrays else (0, 0, 0, 0)
        if has[0] >= slots and has[2] >= capacity:
            return
        slots, capacity = max(slots, has[0]), max(capacity, has[2])
        old = self._arrays or [None] * len(like)
        self._arrays = tuple(
            _enlarged(before, (slots, array.shape[1], capacity, array.shape[3]), array.dtype)
            for before, array in zip(old, like, strict=True)
        )


def _enlarged(array: mx.array | None, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    if array is None:
        return mx.zeros(shape, dtype)
    return mx.pad(array, [(0, new - old) for new, old in zip(shape, array.shape, strict=True)])


def _halves(arrays: Sequence[mx.array]) -> tuple[Any, Any]:
    """Keys and values as mlx-lm's caches hold them: one array each, or three if quantized."""
    if len(arrays) == 2:
        return arrays[0], arrays[1]
    return tuple(arrays[:3]), tuple(arrays[3:])


def arrays_of(cache: KVCache | QuantizedKVCache) -> Arrays:
    """What a single-row cache holds, [1, H, length, D] each; nothing if it is empty."""
    if cache.keys is None:
        return ()
    keys, values = cache.keys_and_values()
    return (*keys, *values) if isinstance(cache, QuantizedKVCache) else (keys, values)


def cache_like(
    like: KVCache | QuantizedKVCache | SlotCache, arrays: Sequence[mx.array], length: int
) -> KVCache | QuantizedKVCache:
    """A single-row cache of these arrays."""
    is_quantized = hasattr(like, "bits")
    cache = QuantizedKVCache(like.group_size, like.bits) if is_quantized else KVCache()
    cache.keys, cache.values = _halves(arrays)
    cache.offset = length
    return cache


def num_slots(rows: int) -> int:
    """How many rows there is memory for when a batch has grown to ``rows``."""
    return rows if rows <= 2 else -(-rows // _SLOTS) * _SLOTS


def num_positions(length: int) -> int:
    """How many tokens there is memory for in a row of ``length``."""
    return -(-length // _PAGE) * _PAGE


def has_slots(cache: Any) -> bool:
    return type(cache) in (KVCache, QuantizedKVCache)
