"""What the rows of a batch ask of their next token: parameters, biases, penalties, grammars."""

from collections.abc import Sequence

import numpy as np

from mlxnode.engine.decode.grammar import fill_masks, mask_words
from mlxnode.engine.decode.request import Request
from mlxnode.kernels.sample import Adjustments, SamplingColumns, TokenMasks


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
    """The biases and penalties of the next token, None when no row has any."""
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
    """What the grammars allow as the next token, None when no row has one."""
    states = [row.grammar for row in rows if row.is_constrained]
    if not states:
        return None
    bits = np.empty((len(states), mask_words(vocabulary_size)), np.uint32)
    fill_masks(states, bits)
    numbers = iter(range(len(states)))
    return TokenMasks.of(bits, [next(numbers) if row.is_constrained else -1 for row in rows])
