"""``sample`` in MLX operations: the twin of the Metal kernel, for every device."""

import mlx.core as mx
import numpy as np

from mlxnode.kernels.exp2 import exp2
from mlxnode.kernels.philox import uniform
from mlxnode.kernels.sample import (
    BLOCK,
    GROUPS,
    LOG2_E,
    Adjustments,
    Sampled,
    SamplingColumns,
    TokenMasks,
)

# A truncated row is first sampled among this number of most likely tokens. If its distribution
# may contain more tokens, the row is sampled again among four times that number.
CANDIDATES = 256
_CANDIDATE_BLOCK = 16  # the search for candidates looks at the maxima of blocks of 16 tokens


def sample_ops(
    logits: mx.array,
    columns: SamplingColumns,
    positions: np.ndarray,
    adjustments: Adjustments | None = None,
    masks: TokenMasks | None = None,
    num_top_logprobs: int = 0,
    *,
    needs_logprobs: bool = True,
) -> Sampled:
    """Sample the next token of each row, at its position in the row's sequence.

    A row with a NaN, with +inf, or without an allowed token has no distribution: its
    log-probability is NaN and its token is 0. Unless ``needs_logprobs``, the log-probabilities
    tell nothing else: those of the other rows may have any finite value.

    Shapes:
        logits: [B, V] of any float dtype, positions: [max(B, 8)] uint32
    """
    B, V = logits.shape
    logits = _pad(logits.astype(mx.float32))  # fp32 math from here
    peak = raw_peak = _max(logits)  # [B, 1]
    raw = shifted = logits - raw_peak  # [B, V']
    if adjustments is not None or masks is not None:
        edited = _mask(_adjust(logits, adjustments), masks)
        peak = _max(edited)
        shifted = edited - peak
    tokens = mx.zeros(B, mx.int32)
    if not columns.all_greedy:
        tokens = _sample_rows(shifted, columns, positions)
    if columns.any_greedy:
        best = mx.argmax(shifted, axis=-1).astype(mx.int32)
        tokens = mx.where(columns.is_greedy[:B], best, tokens)

    # NaN if the row has a NaN or +inf, or no allowed token, otherwise zero. [B]
    flaw = (raw_peak - raw_peak + peak - peak)[:, 0]
    tokens = mx.where(mx.isnan(flaw), 0, tokens)
    if not needs_logprobs:
        return Sampled(tokens, flaw)
    log_total = mx.log(_sum(exp2(raw * LOG2_E))) + flaw
    logprobs = mx.take_along_axis(raw, tokens[:, None], axis=-1)[:, 0] - log_total
    if num_top_logprobs == 0:
        return Sampled(tokens, logprobs)
    top_ids, top_logits = _top_logits(raw, min(num_top_logprobs, V))  # [B, K]
    return Sampled(tokens, logprobs, top_ids, top_logits - log_total[:, None])


def _pad(logits: mx.array) -> mx.array:
    """The logits with -inf up to a whole number of blocks in each group. [B, V']"""
    missing = -logits.shape[1] % (GROUPS * BLOCK)
    if missing == 0:
        return logits
    return mx.pad(logits, [(0, 0), (0, missing)], constant_values=-mx.inf)


def _adjust(logits: mx.array, adjustments: Adjustments | None) -> mx.array:
    """The logits with bias and penalties. [B, V]"""
    if adjustments is None:
        return logits
    B, _ = logits.shape
    repetition, frequency, presence = (
        values[:B, None]
        for values in (adjustments.repetition, adjustments.frequency, adjustments.presence)
    )
    counts = adjustments.counts
    values = mx.take_along_axis(logits, adjustments.ids, axis=-1) + adjustments.bias  # [B, P]
    repeated = mx.where(values > 0, values / repetition, values * repetition)
    values = mx.where(counts >= 0, repeated, values)
    generated = mx.maximum(counts, 0)
    values = values - generated * frequency - mx.where(generated > 0, presence, 0.0)
    # The repeated entries of a row write the same value.
    return mx.put_along_axis(logits, adjustments.ids, values, axis=-1)


def _mask(logits: mx.array, masks: TokenMasks | None) -> mx.array:
    """The logits with -inf for tokens that are not allowed. [B, V]"""
    if masks is None:
        return logits
    B, V = logits.shape
    bits = masks.bits[:, :, None] >> mx.arange(32, dtype=mx.uint32)  # [M, W, 32]
    allowed = (bits & 1).astype(mx.bool_).reshape(bits.shape[0], -1)
    allowed = mx.pad(allowed, [(0, 0), (0, max(0, V - allowed.shape[1]))])[:, :V]  # [M, V]
    indices = masks.indices[:B]
    allowed = allowed[mx.maximum(indices, 0)] | (indices < 0)[:, None]  # [B, V]
    return mx.where(allowed, logits, -mx.inf)


def _sample_rows(
    shifted: mx.array, columns: SamplingColumns, positions: np.ndarray
) -> mx.array:
    """The tokens of rows that are not greedy; undefined tokens for greedy rows. [B] int32"""
    B, _ = shifted.shape
    numbers = mx.array(uniform(columns.seeds, positions))[:B]
    weights = exp2(shifted * columns.scale[:B, None])  # the most likely token weighs 1
    if len(columns.truncated_rows) == 0:
        return _sample_full(weights, numbers)
    truncated = _sample_truncated(shifted, weights, columns, numbers)
    if not columns.any_full:
        return truncated
    return mx.where(columns.is_truncated[:B], truncated, _sample_full(weights, numbers))


def _sample_full(weights: mx.array, numbers: mx.array) -> mx.array:
    """Sample the whole vocabulary: a group of tokens, then a token of the group. [B] int32"""
    B, _ = weights.shape
    groups = weights.reshape(B, -1, GROUPS, BLOCK)
    mass = mx.cumsum(groups.sum(axis=-1).sum(axis=1), axis=-1)  # [B, GROUPS]
    target = numbers * mass[:, -1]
    group = _num_at_most(mass, target)[:, None]  # [B, 1]
    before = mx.where(group > 0, mx.take_along_axis(mass, mx.maximum(group - 1, 0), axis=-1), 0)
    chosen = mx.take_along_axis(groups, group[:, :, None, None], axis=2).reshape(B, -1)
    mass = mx.cumsum(chosen, axis=-1)
    # Both sums round, so the target may lie past the end: then the last token is sampled.
    last = (mass < mass[:, -1:]).sum(axis=-1)
    index = mx.minimum(_num_at_most(mass, target - before[:, 0]), last)
    token = index // BLOCK * (GROUPS * BLOCK) + group[:, 0] * BLOCK + index % BLOCK
    return token.astype(mx.int32)


def _sample_truncated(
    shifted: mx.array, weights: mx.array, columns: SamplingColumns, numbers: mx.array
) -> mx.array:
    """The tokens of truncated rows; undefined tokens for the other rows. [B] int32

    A row whose distribution may contain more than the candidates is sampled again among more.
    """
    B, V = shifted.shape
    tokens = mx.zeros(B, mx.int32)
    rows, count = columns.truncated_rows, CANDIDATES
    while len(rows) > 0:
        index = slice(B) if len(rows) == B else mx.array(rows)
        sampled, fits = _sample_among(
            min(count, V),
            shifted[index],
            weights[index],
            columns.scale[index],
            columns.top_k[index],
            columns.top_p[index],
            columns.min_p[index],
            numbers[index],
        )
        tokens[index] = sampled
        rows, count = rows[~np.array(fits)], 4 * count
    return tokens


def _sample_among(
    count: int,
    shifted: mx.array,
    weights: mx.array,
    scale: mx.array,
    top_k: mx.array,
    top_p: mx.array,
    min_p: mx.array,
    numbers: mx.array,
) -> tuple[mx.array, mx.array]:
    """Sample among the ``count`` most likely tokens of each row.

    Shapes:
        shifted, weights: [B, V], the other arrays: [B] -> tokens: [B] int32, fits: [B] bool,
        false if the row's distribution may contain more than these tokens
    """
    _, V = shifted.shape
    ids, logits = most_likely(shifted, count)  # [B, K]
    candidates = exp2(logits * scale[:, None])  # descending
    top_k = mx.where(top_k > 0, mx.minimum(top_k, V), V)
    top = mx.where(mx.arange(count) < top_k[:, None], candidates, 0.0)
    # With top-k, top-p is a share of the mass that top-k keeps.
    total = mx.where(top_k < V, top.sum(axis=-1), _sum(weights))
    before = mx.cumsum(top, axis=-1) - top  # mass of the more likely tokens
    # A top_p of 1 must not lose the tail to rounding; a top_p of 0 keeps the first token.
    nucleus = mx.where(top_p < 1, top_p * total, mx.inf)[:, None]
    is_kept = (before < nucleus) | (mx.arange(count) == 0)
    is_kept = is_kept & (top >= min_p[:, None]) & (top > 0)
    mass = mx.cumsum(mx.where(is_kept, top, 0.0), axis=-1)
    choice = _num_at_most(mass, numbers * mass[:, -1])
    tokens = mx.take_along_axis(ids, choice[:, None], axis=-1)[:, 0]
    # A kept token as unlikely as the last candidate may have equals outside the candidates.
    least_kept = mx.where(is_kept, top, mx.inf).min(axis=-1)
    is_total_known = (top_k <= count) | (top_k == V) | (top_p == 1)
    return tokens, (is_total_known & (least_kept > candidates[:, -1])) | (count == V)


def _top_logits(shifted: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """``most_likely``, with the lowest ids among equals of the last token as well."""
    _, V = shifted.shape
    width = min(CANDIDATES, V)
    while True:
        ids, logits = most_likely(shifted, width)
        # The equals of the last candidate are not chosen by id. A NaN equals nothing.
        if width == V or not mx.any(logits[:, count - 1] == logits[:, -1]).item():
            return ids[:, :count], logits[:, :count]
        width = min(4 * width, V)


def most_likely(shifted: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """The ``count`` largest logits of each row and their ids, descending, ties by lower id.

    Among equals of the last token, the choice is undefined.

    Shapes:
        shifted: [B, V], at most 0 -> ids [B, K] int32, logits [B, K]
    """
    B, V = shifted.shape
    if count == V:
        return _sorted(shifted, mx.arange(V))
    values, ids = shifted, mx.broadcast_to(mx.arange(V), (B, V))
    if count * _CANDIDATE_BLOCK < V:
        # The K largest logits lie in the K blocks with the largest maxima. Block j holds
        # the ids j, j + stride, j + 2 * stride, ...: maxima read contiguous memory.
        blocks = shifted.reshape(B, _CANDIDATE_BLOCK, -1)
        stride = blocks.shape[-1]
        best = mx.argpartition(-blocks.max(axis=1), count, axis=-1)[:, None, :count]
        values = mx.take_along_axis(blocks, best, axis=-1).reshape(B, -1)  # [B, 16K]
        ids = (best + stride * mx.arange(_CANDIDATE_BLOCK)[:, None]).reshape(B, -1)
    chosen = mx.argpartition(-values, count, axis=-1)[:, :count]
    return _sorted(
        mx.take_along_axis(values, chosen, axis=-1), mx.take_along_axis(ids, chosen, axis=-1)
    )


def _sorted(shifted: mx.array, ids: mx.array) -> tuple[mx.array, mx.array]:
    """Ids and logits by logit, descending, ties by lower id. Two of [B, N]"""
    # One sort of 64-bit keys: the bits of floats that are not negative have their order.
    distance = mx.abs(shifted).view(mx.uint32).astype(mx.uint64)
    keys = mx.sort((distance << 32) | ids.astype(mx.uint64), axis=-1)
    logits = -(keys >> 32).astype(mx.uint32).view(mx.float32)
    return (keys & 0xFFFFFFFF).astype(mx.int32), logits


def _num_at_most(cumulative: mx.array, target: mx.array) -> mx.array:
    """The number of cumulative weights up to the target in each row. [B] int32"""
    return (cumulative <= target[:, None]).sum(axis=-1).astype(mx.int32)


def _sum(weights: mx.array) -> mx.array:
    """The sum of each row. In two steps: one step loses four digits over a vocabulary. [B]"""
    B, _ = weights.shape
    return weights.reshape(B, -1, BLOCK).sum(axis=-1).sum(axis=-1)


def _max(logits: mx.array) -> mx.array:
    """The largest logit of each row, NaN if the row has a NaN. [B, 1]"""
    B, _ = logits.shape
    # In two steps; the first reads contiguous memory, in a third of the time on the CPU.
    return logits.reshape(B, GROUPS, -1).max(axis=1).max(axis=-1, keepdims=True)
