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
from mlxnode.messages.data import Token


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
    """The tokens that may follow, None if every row allows all tokens.

    A grammar and the end of the reasoning restrict them. A forced token that the grammar does
    not allow is left to the grammar. Before its grammar starts, an answer cannot end.
    """
    masked = [i for i, row in enumerate(rows) if row.is_masked]
    if not masked:
        return None
    bits = np.empty((len(masked), mask_words(vocabulary_size)), np.uint32)
    fill_masks([rows[i].active_grammar for i in masked], bits)
    for mask, i in zip(bits, masked, strict=True):
        if rows[i].awaits_grammar:
            remove_tokens(mask, rows[i].stop_ids)
        if (token := rows[i].forced_token) is not None:
            _allow_only(token, mask)
    indices = [-1] * len(rows)
    for number, i in enumerate(masked):
        indices[i] = number
    return TokenMasks.of(bits, indices)


def _allow_only(token: int, mask: np.ndarray) -> None:
    """Remove the other tokens from ``mask`` [W], if it allows ``token``."""
    word, bit = token // 32, np.uint32(1 << token % 32)
    if word < len(mask) and mask[word] & bit:
        mask[:] = 0
        mask[word] = bit
