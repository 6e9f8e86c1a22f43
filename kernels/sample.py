"""Draw one token per row of a batch of logits, each row with parameters of its own.

Exact semantics, in this order: temperature, top-k, top-p over what top-k left, min-p
relative to the most likely token. Tokens are ordered by logit, ties by lower id. The draw
inverts the cumulative distribution of what is left, at a given uniform number, so a row
depends on its own logits, parameters and number alone.

Log-probabilities are those of the model's raw logits, whatever the sampling parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

# Truncated rows are drawn among this many most likely tokens first; a batch with a row whose
# top-p or min-p reaches further is drawn again among 16 times as many.
CANDIDATES = 256
_BLOCK = 16  # a row is searched for candidates by the maxima of blocks of this many tokens
_LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class SamplingColumns:
    """The sampling parameters of a batch, one column each.

    Shapes:
        every array: [B]

    A ``temperature`` of 0 is greedy; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off.
    The flags tell, without asking the device, which work some row needs.
    """

    temperature: mx.array  # float32, 1 for greedy rows
    top_k: mx.array  # int32, 0 for none
    top_p: mx.array  # float32
    min_p: mx.array  # float32
    is_greedy: mx.array  # bool
    is_truncated: mx.array  # bool
    all_greedy: bool
    any_truncated: bool
    any_full: bool  # some row is drawn from the whole vocabulary

    @classmethod
    def of(
        cls,
        temperature: Sequence[float],
        top_k: Sequence[int],
        top_p: Sequence[float],
        min_p: Sequence[float],
    ) -> "SamplingColumns":
        heat = np.array(temperature, np.float32)
        k, p, m = (
            np.array(top_k, np.int32),
            np.array(top_p, np.float32),
            np.array(min_p, np.float32),
        )
        greedy = heat == 0
        truncated = ~greedy & ((k > 0) | (p < 1) | (m > 0))
        return cls(
            temperature=mx.array(np.where(greedy, np.float32(1), heat)),
            top_k=mx.array(k),
            top_p=mx.array(p),
            min_p=mx.array(m),
            is_greedy=mx.array(greedy),
            is_truncated=mx.array(truncated),
            all_greedy=bool(greedy.all()),
            any_truncated=bool(truncated.any()),
            any_full=bool((~greedy & ~truncated).any()),
        )


def sample(
    logits: mx.array, columns: SamplingColumns, draws: mx.array
) -> tuple[mx.array, mx.array]:
    """Draw the next token of each row.

    ``draws`` are uniform numbers in [0, 1), multiples of 2**-23. A row with a NaN, with
    +inf, or with nothing but -inf has no distribution: its log-probability is NaN.

    Shapes:
        logits: [B, V], draws: [B] -> tokens: [B] int32, logprobs: [B] float32
    """
    shifted = logits.astype(mx.float32)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)  # [B, V], fp32 math from here
    weights = _exp(shifted)
    log_total = mx.log(weights.sum(axis=-1))  # [B]
    tokens = mx.argmax(shifted, axis=-1).astype(mx.int32)
    if not columns.all_greedy:
        tokens = mx.where(columns.is_greedy, tokens, _draw(shifted, columns, draws))
    logprobs = mx.take_along_axis(shifted, tokens[:, None], axis=-1)[:, 0] - log_total
    return tokens, logprobs


def _draw(shifted: mx.array, columns: SamplingColumns, draws: mx.array) -> mx.array:
    """Tokens of the rows that are not greedy; any token for those that are. [B] int32"""
    weights = _exp(shifted / columns.temperature[:, None])  # the most likely token weighs 1
    full = truncated = None
    if columns.any_full:
        full = _invert(mx.cumsum(weights, axis=-1), draws)
    if columns.any_truncated:
        truncated = _draw_truncated(shifted, weights, columns, draws)
    if full is None:
        return truncated
    if truncated is None:
        return full
    return mx.where(columns.is_truncated, truncated, full)


def _draw_truncated(
    shifted: mx.array, weights: mx.array, columns: SamplingColumns, draws: mx.array
) -> mx.array:
    """Tokens of the truncated rows, among as many candidates as the widest of them needs."""
    vocabulary = shifted.shape[-1]
    count = min(CANDIDATES, vocabulary)
    tokens, fits = _draw_among(count, shifted, weights, columns, draws)
    while count < vocabulary and not mx.all(fits | ~columns.is_truncated).item():
        count = min(16 * count, vocabulary)
        wider, wider_fits = _draw_among(count, shifted, weights, columns, draws)
        tokens, fits = mx.where(fits, tokens, wider), fits | wider_fits
    return tokens


def _draw_among(
    count: int,
    shifted: mx.array,
    weights: mx.array,
    columns: SamplingColumns,
    draws: mx.array,
) -> tuple[mx.array, mx.array]:
    """Draw among the ``count`` most likely tokens of each row.

    Shapes:
        shifted, weights: [B, V] -> tokens: [B] int32, fits: [B] bool, false where tokens
        beyond those ``count`` may belong to the row's distribution too
    """
    ids = _most_likely(shifted, count)  # [B, K]
    candidates = mx.take_along_axis(weights, ids, axis=-1)  # [B, K], descending
    has_top_k = columns.top_k > 0
    top_k = mx.where(has_top_k, columns.top_k, shifted.shape[-1])
    top = mx.where(mx.arange(count) < top_k[:, None], candidates, 0.0)
    # With top-k, top-p is a share of what top-k left.
    total = mx.where(has_top_k, top.sum(axis=-1), weights.sum(axis=-1))
    before = mx.cumsum(top, axis=-1) - top  # mass of the more likely tokens
    # A top_p of 1 must not lose the tail to rounding; one of 0 keeps the most likely token.
    nucleus = mx.where(columns.top_p < 1, columns.top_p * total, mx.inf)[:, None]
    is_kept = (before < nucleus) | (mx.arange(count) == 0)
    is_kept = is_kept & (top >= columns.min_p[:, None]) & (top > 0)
    choice = _invert(mx.cumsum(mx.where(is_kept, top, 0.0), axis=-1), draws)
    tokens = mx.take_along_axis(ids, choice[:, None], axis=-1)[:, 0]
    # A kept token as unlikely as the last candidate may have equals that are not here.
    least_kept = mx.where(is_kept, top, mx.inf).min(axis=-1)
    return tokens, least_kept > candidates[:, -1]


def _most_likely(logits: mx.array, count: int) -> mx.array:
    """Ids of the ``count`` largest logits, descending, ties by lower id. [B, K] int32"""
    B, V = logits.shape
    if count == V:
        return _stable_order(logits)
    values, ids = logits, None
    if count * _BLOCK < V:
        # The K largest logits lie in the K blocks with the largest maxima. Block j holds
        # the ids j, j + stride, j + 2 * stride, ...: maxima run along contiguous memory.
        blocks = mx.pad(logits, [(0, 0), (0, -V % _BLOCK)], constant_values=-mx.inf)
        blocks = blocks.reshape(B, _BLOCK, -1)
        stride = blocks.shape[-1]
        best = mx.argpartition(-blocks.max(axis=1), count, axis=-1)[:, None, :count]
        values = mx.take_along_axis(blocks, best, axis=-1).reshape(B, -1)  # [B, 16K]
        ids = (best + stride * mx.arange(_BLOCK)[:, None]).reshape(B, -1)
    chosen = mx.argpartition(-values, count, axis=-1)[:, :count]
    ids = chosen if ids is None else mx.take_along_axis(ids, chosen, axis=-1)
    ids = mx.sort(ids, axis=-1).astype(mx.int32)
    order = _stable_order(mx.take_along_axis(logits, ids, axis=-1))
    return mx.take_along_axis(ids, order, axis=-1)


def _stable_order(values: mx.array) -> mx.array:
    """Indices that sort each row descending, equal values in their order. [B, N] int32"""
    return mx.argsort(-values, axis=-1).astype(mx.int32)


def _invert(cumulative: mx.array, draws: mx.array) -> mx.array:
    """The first index whose cumulative weight exceeds the drawn share of all. [B] int32"""
    threshold = draws[:, None] * cumulative[:, -1:]
    # Draws are at most 1 - 2**-23, so the threshold stays below the total after rounding.
    return (cumulative <= threshold).sum(axis=-1).astype(mx.int32)


def _exp(x: mx.array) -> mx.array:
    """e**x; as a power of two it takes a third of the time of ``mx.exp`` on the CPU."""
    return mx.power(2.0, x * _LOG2_E)
