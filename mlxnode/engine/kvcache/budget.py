"""The memory of KV caches: what a batch needs, and who holds how much of it."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import ArraysCache

from mlxnode.engine.kvcache.prompt_cache import (
    arrays_of,
    evaluate,
    flat_layers,
    is_plain,
    new_prompt_cache,
)
from mlxnode.engine.kvcache.slots import num_positions, num_slots
from mlxnode.errors import ModelError

UNBOUNDED = 2**62  # tokens


class MemoryBudget:
    """Bytes of KV cache, shared by all models of the engine.

    ``total`` may be set after the models are loaded. ``evictors`` release at least the given
    number of bytes from caches, if they hold so much; they are called when a claim does not
    fit.
    """

    def __init__(self, total: int = 0):
        self.total = total
        self.evictors: list[Callable[[int], None]] = []
        self._claims: dict[object, int] = {}

    def claim(self, owner: object, size: int, *, evicts: bool = True) -> bool:
        """Set the bytes of ``owner`` to ``size``; False, and no change, if they do not fit."""
        if evicts and size > self._claims.get(owner, 0):
            for evict in self.evictors:
                if (missing := self._others(owner) + size - self.total) > 0:
                    evict(missing)
        if self._others(owner) + size > self.total:
            return False
        self._claims[owner] = size
        return True

    def _others(self, owner: object) -> int:
        return sum(size for holder, size in self._claims.items() if holder is not owner)


def measure_batch(
    model: nn.Module, bits: int | None = None, surplus: int = 0
) -> Callable[[int, int], int]:
    """A function (rows, tokens of the longest row) -> bytes of the batch's KV cache.

    A step may write ``surplus`` more tokens than it keeps. Runs the model once on one token.

    Raises:
        ModelError: a layer cannot be batched, or its keys and values cannot be quantized.
    """
    cache = new_prompt_cache(model, bits)
    for layer in flat_layers(cache):
        if not is_plain(layer) and not hasattr(layer, "merge"):
            raise ModelError(f"its cache ({type(layer).__name__}) cannot be batched")
    try:
        model(mx.zeros((1, 1), mx.int32), cache=cache)
        evaluate(cache)
    except ValueError as error:
        if bits is None:
            raise
        raise ModelError(f"kv_cache_bits = {bits} does not fit this model: {error}") from error

    fixed = 0  # bytes, independent of the length
    growing: list[tuple[int, int]] = []  # bytes for each token, max. tokens
    layer: Any
    for layer in flat_layers(cache):
        if isinstance(layer, ArraysCache):
            fixed += layer.nbytes
        elif is_plain(layer):
            growing.append((sum(array.nbytes for array in arrays_of(layer)), UNBOUNDED))
        else:
            keys, values = layer.keys_and_values()
            max_length = getattr(layer, "max_size", None) or UNBOUNDED
            growing.append(((keys.nbytes + values.nbytes) // keys.shape[2], max_length))

    def batch_bytes(rows: int, length: int) -> int:
        capacity = num_positions(length + surplus)
        row = fixed + sum(size * min(capacity, longest) for size, longest in growing)
        return num_slots(rows) * row

    return batch_bytes
