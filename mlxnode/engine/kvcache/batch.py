"""The KV cache of a batch: rows join and leave it without a copy of the others.

A request prefills into a row of its own (mlx-lm's single-row caches) and then joins the batch:
its keys and values are written into the next slot (``slots.py``). When a row leaves, the last
one moves into its place.

Layers that keep no plain or quantized keys and values (sliding windows, states) use mlx-lm's
own batch caches, which are copied when rows join or leave.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    make_prompt_cache,
)

from mlxnode.engine.kvcache.slots import (
    SlotCache,
    Slots,
    arrays_of,
    cache_like,
    has_slots,
    num_positions,
    num_slots,
)
from mlxnode.errors import ModelError

Row = list[Any]  # the caches of one request, one a layer


class BatchCache:
    """One cache object a layer, each holding every row of the batch in the same order."""

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self._slots = Slots()

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each row."""
        return self._slots.lengths

    def join(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        if not self.layers:
            self.layers = [
                SlotCache(self._slots, layer) if has_slots(layer) else None for layer in rows[0]
            ]
        lengths = [_length(row) for row in rows]
        for i, layer in enumerate(self.layers):
            caches = [row[i] for row in rows]
            if isinstance(layer, SlotCache):
                layer.join(caches, lengths)
            elif layer is None:
                self.layers[i] = caches[0].merge(caches)
            else:
                layer.extend(caches[0].merge(caches))
        self._slots.lengths = self._slots.lengths + lengths

    def leave(self, indices: Sequence[int]) -> list[int]:
        """Drop the rows at ``indices``; returns the former index of each row that is left."""
        kept = _compacted(len(self._slots.lengths), indices)
        moved = [(old, new) for new, old in enumerate(kept) if old != new]
        lengths = [self._slots.lengths[i] for i in kept]
        for layer in self.layers:
            if not isinstance(layer, SlotCache) and kept:
                layer.filter(kept)
        slots = [layer for layer in self.layers if isinstance(layer, SlotCache)]
        # Read before anything is written: arrays of which nobody keeps a part are written in
        # place, others would be copied whole.
        rows = [
            [layer.read(old, self._slots.lengths[old]) for old, _ in moved] for layer in slots
        ]
        mx.eval(rows)
        for layer, arrays in zip(slots, rows, strict=True):
            for (_, new), row in zip(moved, arrays, strict=True):
                layer.write(new, row)
        self._slots.lengths = lengths
        if not kept:
            self.layers = []
            return kept
        for layer in slots:
            layer.shrink(len(kept), self._slots.longest)
        return kept

    @property
    def can_rewind(self) -> bool:
        """Whether the model may run on more tokens of a row than it is advanced by."""
        return all(isinstance(layer, SlotCache) for layer in self.layers)

    def advance(self, counts: Sequence[int]) -> None:
        """Say how many tokens of each row the model has run on."""
        lengths = zip(self._slots.lengths, counts, strict=True)
        self._slots.lengths = [length + count for length, count in lengths]

    def extract(self, index: int, length: int) -> Row | None:
        """The first ``length`` tokens of a row as single-row caches, None if that cannot be."""
        if not self.can_rewind:
            return None
        row = [layer.extract(index, length) for layer in self.layers]
        mx.eval([layer.state for layer in row])
        return row


def can_be_cut(row: Row) -> bool:
    """Whether the caches of a text hold those of each of its beginnings."""
    return all(has_slots(layer) for layer in row)


def cut(row: Row, length: int, *, is_copy: bool = False) -> Row:
    """The caches of the first ``length`` tokens of a row, which may share its memory."""

    def part(array: mx.array) -> mx.array:
        array = array[..., :length, :]
        return mx.contiguous(array) if is_copy else array

    parts = [[part(array) for array in arrays_of(layer)] for layer in row]
    if is_copy:
        mx.eval(parts)
    return [cache_like(layer, part, length) for layer, part in zip(row, parts, strict=True)]


def make_row(model: nn.Module, bits: int | None = None) -> Row:
    """Empty caches for one request; keys and values quantized to ``bits`` where they can be."""
    row = make_prompt_cache(model)
    if bits is None:
        return row
    return [QuantizedKVCache(bits=bits) if type(layer) is KVCache else layer for layer in row]


def measure_batch(
    model: nn.Module, bits: int | None = None, surplus: int = 0
) -> Callable[[int, int], int]:
    """A function from a number of rows, and the longest one's tokens, to the bytes of a batch.

    A step may write ``surplus`` tokens more than it keeps. Runs the model once on one token.

    Raises:
        ModelError: the model keeps a kind of cache that cannot be batched, or not quantized.
    """
    layers = make_row(model, bits)
    for layer in _flatten(layers):
        if not has_slots(layer) and not hasattr(layer, "merge"):
            raise ModelError(f"its cache ({type(layer).__name__}) cannot be batched")
    try:
        model(mx.zeros((1, 1), mx.int32), cache=layers)
        mx.eval([layer.state for layer in layers])
    except ValueError as error:
        if bits is None:
            raise
        raise ModelError(f"kv_cache_bits = {bits} does not fit this model: {error}") from error

    fixed = 0  # bytes whatever the length
    growing: list[tuple[int, int]] = []  # bytes a token, longest length
    for layer in _flatten(layers):
        if isinstance(layer, ArraysCache):
            fixed += layer.nbytes
        elif has_slots(layer):
            growing.append((sum(array.nbytes for array in arrays_of(layer)), 2**62))
        else:
            keys, values = layer.keys_and_values()
            length = getattr(layer, "max_size", None) or 2**62
            growing.append(((keys.nbytes + values.nbytes) // keys.shape[2], length))

    def batch_bytes(rows: int, length: int) -> int:
        capacity = num_positions(length + surplus)
        row = fixed + sum(size * min(capacity, longest) for size, longest in growing)
        return num_slots(rows) * row

    return batch_bytes


def _length(row: Row) -> int:
    """Tokens in the cache of a row; 0 where no layer counts them."""
    return next((layer.offset for layer in row if has_slots(layer)), 0)


def _compacted(count: int, leaving: Sequence[int]) -> list[int]:
    """The rows that stay, the last ones moved into the places of those that leave."""
    rows = list(range(count))
    for index in sorted(leaving, reverse=True):
        rows[index] = rows[-1]
        rows.pop()
    return rows


def _flatten(layers: list[Any]) -> list[Any]:
    flat = []
    for layer in layers:
        flat += _flatten(layer.caches) if isinstance(layer, CacheList) else [layer]
    return flat
