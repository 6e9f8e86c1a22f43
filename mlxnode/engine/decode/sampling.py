"""Sampling for the rows of a batch: their parameters as columns, and the launch."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from mlxnode.engine.decode.grammar import fill_masks, mask_words, remove_tokens
from mlxnode.engine.decode.request import Request
from mlxnode.kernels.backend import Kernels
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Adjustments, Sampled, SamplingColumns, TokenMasks
from mlxnode.messages import Token


class Sampler:
    """Launches the sampling kernel for rows of requests."""

    def __init__(self, kernels: Kernels):
        self._sample = kernels.sample

    def launch(
        self,
        rows: Sequence[Request],
        logits: mx.array,
        columns: SamplingColumns,
        adjustments: Adjustments | None,
        ahead: Sequence[int] | None = None,
    ) -> Sampled:
        """Sample one token for each row, without waiting for the tokens.

        ``ahead``: how many positions after its next token each row is sampled; default 0.

        Shapes:
            rows: B, logits: [B, V], ahead: B
        """
        ahead = ahead or [0] * len(rows)
        positions = [row.num_sampled + n for row, n in zip(rows, ahead, strict=True)]
        requested = [n for row in rows if (n := row.sampling.top_logprobs) is not None]
        sampled = self._sample(
            logits,
            columns,
            column(positions, np.uint32, 0),
            adjustments,
            masks_of(rows, logits.shape[-1]),
            max(requested, default=0),
            needs_logprobs=bool(requested),
        )
        mx.async_eval(*(array for array in sampled if array is not None))
        return sampled


def to_tokens(sampled: Sampled) -> list[Token]:
    """Wait for sampled tokens and copy them to the host, with all that was computed of them."""
    ids, logprobs = to_list(sampled.tokens), to_list(sampled.logprobs)
    if sampled.top_ids is None or sampled.top_logprobs is None:
        return list(map(Token, ids, logprobs))
    pairs = zip(to_list(sampled.top_ids), to_list(sampled.top_logprobs), strict=True)
    return list(map(Token, ids, logprobs, (dict(zip(*pair, strict=True)) for pair in pairs)))


def to_list(array: mx.array) -> list[Any]:
    """The elements of an array of at least one dimension."""
    values = array.tolist()
    return values if isinstance(values, list) else [values]


def columns_of(rows: Sequence[Request]) -> SamplingColumns:
    """The sampling parameters of the rows."""
    sampling = [row.sampling for row in rows]
    return SamplingColumns.of(
        temperature=[s.temperature for s in sampling],
        top_k=[s.top_k for s in sampling],
        top_p=[s.top_p for s in sampling],
        min_p=[s.min_p for s in sampling],
        seeds=[row.seed for row in rows],
    )


def adjustments_of(rows: Sequence[Request]) -> Adjustments | None:
    """The biases and penalties for the next token, None if no row has any."""
    biases = [row.bias for row in rows]
    counts = [row.counts or {} for row in rows]
    if not any(biases) and not any(counts):
        return None
    return Adjustments.of(
        bias=biases,
        counts=counts,
        repetition=[row.sampling.repetition_penalty for row in rows],
        frequency=[row.sampling.frequency_penalty for row in rows],
        presence=[row.sampling.presence_penalty for row in rows],
    )


def masks_of(rows: Sequence[Request], vocabulary_size: int) -> TokenMasks | None:
    """The tokens that grammars allow next, None if no row has a grammar."""
    constrained = [row for row in rows if row.grammar is not None]
    if not constrained:
        return None
    bits = np.empty((len(constrained), mask_words(vocabulary_size)), np.uint32)
    fill_masks([row.active_grammar for row in constrained], bits)
    for row, mask in zip(constrained, bits, strict=True):
        if row.active_grammar is None:
            # The answer cannot end before its grammar has started.
            remove_tokens(mask, row.stop_ids)
    numbers = iter(range(len(constrained)))
    return TokenMasks.of(bits, [-1 if r.grammar is None else next(numbers) for r in rows])
