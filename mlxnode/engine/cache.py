"""The KV cache of a batch, built from mlx-lm's cache classes.

A request prefills into a row of its own and then joins the batch. mlx-lm's batch caches are
padded on the left, and copied when rows join or leave.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import ArraysCache, CacheList, make_prompt_cache

from mlxnode.errors import ModelError

_PAGE = 256  # tokens by which mlx-lm's caches grow


class BatchCache:
    """One cache object a layer, each holding every row of the batch."""

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def join(self, rows: list[list[Any]]) -> None:
        """Append rows, each a list of single-row caches, one a layer."""
        joined = [caches[0].merge(list(caches)) for caches in zip(*rows, strict=True)]
        if not self.layers:
            self.layers = joined
            return
        for layer, other in zip(self.layers, joined, strict=True):
            layer.extend(other)

    def keep(self, indices: list[int]) -> None:
        """Drop every row but those at ``indices``."""
        if not indices:
            self.layers = []
        for layer in self.layers:
            layer.filter(indices)


def measure_row(model: nn.Module) -> Callable[[int], int]:
    """A function from a length in tokens to the bytes of one row's cache at that length.

    Runs the model once on one token.

    Raises:
        ModelError: the model keeps a kind of cache that cannot be batched.
    """
    layers = make_prompt_cache(model)
    for layer in _flatten(layers):
        if not hasattr(layer, "merge"):
            raise ModelError(f"its cache ({type(layer).__name__}) cannot be batched")
    model(mx.zeros((1, 1), mx.int32), cache=layers)
    mx.eval([layer.state for layer in layers])

    fixed = 0  # bytes whatever the length
    growing: list[tuple[int, int]] = []  # bytes a token, longest length
    for layer in _flatten(layers):
        if isinstance(layer, ArraysCache):
            fixed += layer.nbytes
        else:
            keys, values = layer.keys_and_values()
            length = getattr(layer, "max_size", None) or 2**62
            growing.append(((keys.nbytes + values.nbytes) // keys.shape[2], length))

    def row_bytes(length: int) -> int:
        pages = -(-length // _PAGE) * _PAGE
        return fixed + sum(size * min(pages, longest) for size, longest in growing)

    return row_bytes


def _flatten(layers: list[Any]) -> list[Any]:
    flat = []
    for layer in layers:
        flat += _flatten(layer.caches) if isinstance(layer, CacheList) else [layer]
    return flat
