"""Rows that run one by one, for models whose layers serve one sequence at a time only."""

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn

from mlxnode.engine.kvcache.batch import BatchCache, compacted
from mlxnode.engine.kvcache.layers.factory import can_share_arrays
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    SequenceCache,
    evaluate,
    is_plain,
    new_prompt_cache,
    num_tokens,
    trimmed,
)
from mlxnode.engine.mirror import Mirrored, mirrored


class SeparateRows(Mirrored):
    """The caches of single sequences, with the methods of a ``BatchCache``.

    Nothing is copied when rows join or leave. A pass reads the weights once for each row.
    """

    halfway = None
    can_rewind = False
    capacity = 0, 0  # the caches of the rows are as large as their lengths tell

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._rows: list[PromptCache] = []
        self.logits: Any = None  # of a step that is launched in part, [B, V]

    @property
    def layers(self) -> list[Any]:
        """The caches of all layers of all rows."""
        return [layer for row in self._rows for layer in row]

    @mirrored
    def join(self, caches: Sequence[PromptCache], lengths: Sequence[int] | None = None) -> None:
        self.lengths += map(num_tokens, caches) if lengths is None else lengths
        self._rows += caches

    @mirrored
    def leave(self, indices: Sequence[int]) -> list[int]:
        kept = compacted(len(self._rows), indices)
        self._rows = [self._rows[i] for i in kept]
        self.lengths = [self.lengths[i] for i in kept]
        return kept

    def run(
        self, model: nn.Module, tokens: mx.array, counts: Sequence[int] | None = None
    ) -> mx.array:
        # MLX writes the next keys in place if no work in flight refers to the caches.
        evaluate(self.layers)
        rows = [model(tokens[i : i + 1], cache=row) for i, row in enumerate(self._rows)]
        return mx.concatenate(rows)

    def reserve(self, count: int) -> None:
        """Nothing: each cache grows by itself."""

    @mirrored
    def advance(self, counts: Sequence[int]) -> None:
        lengths = zip(self.lengths, counts, strict=True)
        self.lengths = [length + count for length, count in lengths]

    @mirrored
    def extract(self, index: int, length: int) -> PromptCache:
        row = SequenceCache(
            trimmed([layer], length, copy=True)[0] if is_plain(layer) else copy.deepcopy(layer)
            for layer in self._rows[index]
        )
        evaluate(row)
        return row


# Models of mlx-lm that compute one sequence, or rows of one length, and no others.
_SEPARATE = {
    "afm7",  # the positions of queries come from the number of keys, that of the longest row
    "gpt_bigcode",  # positions are counted from one offset for all rows
    "minimax_m3_vl",  # the blocks of sparse attention are chosen as if all rows had one length
    "phi3small",  # the mask of several rows has fewer axes than the scores
}


def is_batchable(model: nn.Module) -> bool:
    """True if the rows of a batch of ``model`` can run in one pass.

    Raises:
        ModelError: a layer has a cache that is not served.
    """
    can_share = can_share_arrays(new_prompt_cache(model))
    return can_share and getattr(model, "model_type", None) not in _SEPARATE


@mirrored
def new_batch_cache(model: nn.Module, width: int = 1) -> BatchCache | SeparateRows:
    """The cache of an empty batch of ``model``.

    ``width`` is the largest number of tokens that a pass writes to a row.

    Raises:
        ModelError: a layer has a cache that is not served.
    """
    return BatchCache(width) if is_batchable(model) else SeparateRows()
