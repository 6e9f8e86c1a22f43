"""``sample`` as one Metal kernel: one threadgroup for a row, one launch for a batch.

The kernel reads the logits of a row once, and once more if the row is truncated; more often
only if the distribution contains more than the 1,024 most likely tokens or so.
"""

import functools
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import MIN_ELEMENTS
from mlxnode.kernels.metal import MetalKernel, make_kernel
from mlxnode.kernels.sample import (
    GROUPS,
    MAX_TOP_LOGPROBS,
    Adjustments,
    Sampled,
    SamplingColumns,
    TokenMasks,
)
from mlxnode.kernels.sample_ops import sample_ops

INPUTS = [
    "logits",
    "scale",
    "top_k",
    "top_p",
    "min_p",
    "is_greedy",
    "is_truncated",
    "seeds",
    "positions",
    "adjusted_ids",
    "biases",
    "counts",
    "repetition",
    "frequency",
    "presence",
    "mask_bits",
    "mask_indices",
]

OUTPUTS = ["tokens", "logprobs", "top_ids", "top_logprobs"]

_HEADER = Path(__file__).with_name("sample.metal").read_text()
_BODY = """
    const ThreadIndices my = {thread_index_in_threadgroup, thread_index_in_simdgroup,
                              simdgroup_index_in_threadgroup};
    const uint index = threadgroup_position_in_grid.x;
    threadgroup Shared shared;
    threadgroup atomic_uint marks[EDITS ? MARKS : 1];

    Row<T> row;
    row.size = logits_shape[1];
    row.logits = logits + ulong(index) * row.size;
    row.marks = marks;
    row.is_adjusted = row.is_masked = false;
    if (EDITS) {
      row.num_ids = adjusted_ids_shape[1];
      row.ids = adjusted_ids + index * row.num_ids;
      row.biases = biases + index * row.num_ids;
      row.counts = counts + index * row.num_ids;
      row.repetition = repetition[index];
      row.frequency = frequency[index];
      row.presence = presence[index];
      // A row without adjustments has one neutral entry, repeated.
      row.is_adjusted = row.ids[0] != row.ids[row.num_ids - 1] || row.biases[0] != 0.0f ||
                        row.counts[0] >= 0;
      if (row.is_adjusted) row.mark(my);
      row.is_masked = mask_indices[index] >= 0;
      row.mask = mask_bits + max(mask_indices[index], 0) * mask_bits_shape[1];
    }

    Totals raw, edited;
    for (uint i = 4 * my.thread_index; i < row.size; i += 4 * THREADS) {
      const float4 x = row.raw(i);
      raw.add(x, i, LOG2_E);
      edited.add(EDITS ? row.edit(x, i) : x, i, scale[index]);
    }
    Source<T> source = {row, false, group_max(edited.peak, shared, my), scale[index], 0.0f,
                        edited.peak, 0};
    const float mass = edited.mass_from(source.peak, source.scale);
    source.mass = group_sum(mass, shared, my).total;
    // Weights of later keys vanish.
    source.end = ulong(as_type<uint>(min(126.0f / source.scale, LARGEST)) + 1) << 32;
    Source<T> plain = {row, true, group_max(raw.peak, shared, my), LOG2_E, 0.0f, raw.peak,
                       ulong(as_type<uint>(INFINITY) + 1) << 32};
    plain.mass = group_sum(raw.mass_from(plain.peak, LOG2_E), shared, my).total;

    // A row with NaN, with +inf, or with -inf alone has no distribution.
    const bool is_valid = plain.mass > 0.0f && plain.mass < INFINITY && source.mass > 0.0f &&
                          source.mass < INFINITY;
    uint token = 0;
    if (is_valid) {
      const float number = philox_uniform(seeds[index], positions[index]);
      if (is_greedy[index]) token = most_likely(source, edited.index, shared, my);
      else if (is_truncated[index])
        token = sample_truncated(source, uint(top_k[index]), top_p[index], min_p[index], number,
                                 shared, my);
      else token = sample_full(source, mass, number, shared, my);
    }
    // The largest logit weighs 1, so the mass is at least 1 but for the error of exp2; and the fast
    // log is less exact there. Otherwise a certain token would be more than certain.
    const float log_mass = is_valid ? precise::log(max(plain.mass, 1.0f)) : NAN;
    if (my.thread_index == 0) {
      tokens[index] = int(token);
      logprobs[index] = (float(row.logits[token]) - plain.peak) - log_mass;
    }
    if (TOPS > 0) {
      uint count = 0;
      if (is_valid) {
        const Bound bound = {TOPS, INFINITY, 0.0f};
        Ranking<T> ranking;
        ranking.open(plain, bound, shared, my);
        ranking.seek(plain, bound, shared, my);
        count = min(uint(TOPS), row.size);
        const uint rank = ranking.window.rank;
        if (rank > 0) collect(plain, 0, shared.keys[count - rank - 1] + 1, shared, my);
      }
      if (my.thread_index < TOPS) {
        const bool exists = my.thread_index < count;
        const uint id = exists ? uint(shared.keys[my.thread_index]) : 0;
        const uint output = index * TOPS + my.thread_index;
        top_ids[output] = int(id);
        top_logprobs[output] = (float(row.logits[id]) - plain.peak) - log_mass;
      }
    }
"""


def sample_metal(
    logits: mx.array,
    columns: SamplingColumns,
    positions: np.ndarray,
    adjustments: Adjustments | None = None,
    masks: TokenMasks | None = None,
    num_top_logprobs: int = 0,
    *,
    needs_logprobs: bool = True,
) -> Sampled:
    """``sample_ops`` as one launch of the kernel, which always computes log-probabilities."""
    B, V = logits.shape
    if logits.size < MIN_ELEMENTS:
        return sample_ops(
            logits,
            columns,
            positions,
            adjustments,
            masks,
            num_top_logprobs,
            needs_logprobs=needs_logprobs,
        )
    # The maximum or none, so that few variants of the kernel are compiled.
    tops = MAX_TOP_LOGPROBS if num_top_logprobs else 0
    edits = adjustments is not None or masks is not None
    adjustments = adjustments or _no_adjustments(B if edits else 1)
    masks = masks or _no_masks(B)
    threads = 32 * GROUPS
    tokens, logprobs, top_ids, top_logprobs = kernel()(
        inputs=[
            logits,
            columns.scale,
            columns.top_k,
            columns.top_p,
            columns.min_p,
            columns.is_greedy,
            columns.is_truncated,
            mx.array(columns.seeds),
            mx.array(positions),
            adjustments.ids,
            adjustments.bias,
            adjustments.counts,
            adjustments.repetition,
            adjustments.frequency,
            adjustments.presence,
            masks.bits,
            masks.indices,
        ],
        template=[("T", logits.dtype), ("EDITS", edits), ("TOPS", tops)],
        grid=(threads * B, 1, 1),
        threadgroup=(threads, 1, 1),
        output_shapes=[(B,), (B,), (B, max(tops, 1)), (B, max(tops, 1))],
        output_dtypes=[mx.int32, mx.float32, mx.int32, mx.float32],
    )
    if not num_top_logprobs:
        return Sampled(tokens, logprobs)
    count = min(num_top_logprobs, V)
    return Sampled(tokens, logprobs, top_ids[:, :count], top_logprobs[:, :count])


@functools.cache
def kernel() -> MetalKernel:
    return make_kernel(
        name="sample",
        inputs=INPUTS,
        outputs=OUTPUTS,
        constants={"GROUPS": GROUPS},
        header=_HEADER,
        body=_BODY,
    )


@functools.lru_cache
def _no_adjustments(rows: int) -> Adjustments:
    return Adjustments.of([{}] * rows, [{}] * rows, [1.0] * rows, [0.0] * rows, [0.0] * rows)


@functools.lru_cache
def _no_masks(rows: int) -> TokenMasks:
    return TokenMasks.of(np.zeros((1, MIN_ELEMENTS), np.uint32), [-1] * rows)
