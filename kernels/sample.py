"""Sampling: one token for each row of a batch of logits, with the parameters of the row.

Exact semantics, in this order: bias, penalties (repetition, frequency, presence), mask,
temperature, top-k, top-p over the tokens that top-k keeps, min-p relative to the most likely
token. Tokens are ordered by logit, ties by lower id.

One uniform number for each row, from its seed and position, inverts the cumulative
distribution of the tokens that are kept: in that order for a truncated row (top-k, top-p or
min-p), otherwise in the order of ``GROUPS``. So the token of a row depends neither on the other
rows of the batch nor on the device.

Log-probabilities are those of the model's raw logits, for any sampling parameters.

``sample_metal`` runs on Apple GPUs, ``sample_ops`` on every device; ``backend.choose`` picks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import MIN_ELEMENTS, column

MAX_TOP_LOGPROBS = 20
LOG2_E = math.log2(math.e)

# A row that is not truncated is sampled in two steps: one of GROUPS groups of tokens, then a
# token of the group. Token i belongs to group i // BLOCK % GROUPS, so that likely tokens, often
# neighbours, spread over all groups. In the kernel, one SIMD group reads each group of tokens,
# and only the sampled group is read twice.
GROUPS = 16
BLOCK = 128

_MIN_TEMPERATURE = 1e-30  # 1 / temperature overflows for lower ones


@dataclass(frozen=True)
class SamplingColumns:
    """The sampling parameters of a batch of B rows, one column for each parameter.

    Fields that are not mx.arrays are known on the host, so choosing a code path needs no sync.

    Shapes:
        every column: [max(B, 8)], neutral after the first B elements
    """

    scale: mx.array  # float32, log2(e) / temperature: a weight is 2**(logit * scale)
    top_k: mx.array  # int32, 0 for none
    top_p: mx.array  # float32, 1 for none
    min_p: mx.array  # float32, 0 for none
    is_greedy: mx.array  # bool
    is_truncated: mx.array  # bool, by top-k, top-p or min-p
    seeds: np.ndarray  # uint64
    truncated_rows: np.ndarray  # int32, the indices of the truncated rows
    all_greedy: bool
    any_greedy: bool
    any_full: bool  # some row is sampled from the whole vocabulary

    @classmethod
    def of(
        cls,
        temperature: Sequence[float],
        top_k: Sequence[int],
        top_p: Sequence[float],
        min_p: Sequence[float],
        seeds: Sequence[int],
    ) -> "SamplingColumns":
        """The columns from one value for each row.

        Temperature 0 is greedy; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off.
        """
        t = column(temperature, np.float32, 0)
        k = column(top_k, np.int32, 0)
        p = column(top_p, np.float32, 1)
        m = column(min_p, np.float32, 0)
        greedy = t == 0
        truncated = ~greedy & ((k > 0) | (p < 1) | (m > 0))
        scale = np.where(greedy, 1, LOG2_E / np.maximum(t, _MIN_TEMPERATURE))
        return cls(
            scale=mx.array(scale.astype(np.float32)),
            top_k=mx.array(k),
            top_p=mx.array(p),
            min_p=mx.array(m),
            is_greedy=mx.array(greedy),
            is_truncated=mx.array(truncated),
            seeds=column(seeds, np.uint64, 0),
            truncated_rows=np.flatnonzero(truncated).astype(np.int32),
            all_greedy=bool(greedy.all()),
            any_greedy=bool(greedy[: len(temperature)].any()),
            any_full=not (greedy | truncated).all(),
        )


@dataclass(frozen=True)
class Adjustments:
    """Sparse changes to the logits: a bias, and penalties for tokens of the sequence so far.

    The ``ids`` of a row ascend; its last entry is repeated up to the width P. A row without
    adjustments has the id 0, a bias of 0 and a count of -1.

    Shapes:
        ids, bias, counts: [B, P], P at least 8; penalties: [max(B, 8)]
    """

    ids: mx.array  # int32
    bias: mx.array  # float32
    counts: mx.array  # int32: times generated; 0: only in the prompt; -1: in neither
    repetition: mx.array  # float32, 1 for none: divides a positive logit, multiplies others
    frequency: mx.array  # float32: subtracted once for each time a token was generated
    presence: mx.array  # float32: subtracted once from a token that was generated

    @classmethod
    def of(
        cls,
        bias: Sequence[dict[int, float]],
        counts: Sequence[dict[int, int]],
        repetition: Sequence[float],
        frequency: Sequence[float],
        presence: Sequence[float],
    ) -> "Adjustments":
        """The adjustments from the biases and counts of each row, by token id."""
        rows = [sorted(b.keys() | c.keys()) for b, c in zip(bias, counts, strict=True)]
        # A power of two, so that few shapes are compiled.
        width = 1 << (max(MIN_ELEMENTS, *map(len, rows)) - 1).bit_length()
        shape = (len(rows), width)
        table = np.zeros(shape, [("id", np.int32), ("bias", np.float32), ("count", np.int32)])
        table["count"] = -1
        for row, ids, b, c in zip(table, rows, bias, counts, strict=True):
            if ids:
                entries = [(i, b.get(i, 0.0), c.get(i, -1)) for i in ids]
                row[: len(ids)] = entries
                row[len(ids) :] = entries[-1]
        return cls(
            ids=mx.array(np.ascontiguousarray(table["id"])),
            bias=mx.array(np.ascontiguousarray(table["bias"])),
            counts=mx.array(np.ascontiguousarray(table["count"])),
            repetition=mx.array(column(repetition, np.float32, 1)),
            frequency=mx.array(column(frequency, np.float32, 0)),
            presence=mx.array(column(presence, np.float32, 0)),
        )


@dataclass(frozen=True)
class TokenMasks:
    """The allowed tokens of the rows that have a constraint: M masks for B rows.

    Shapes:
        bits: [M, max(ceil(V / 32), 8)], indices: [max(B, 8)]
    """

    bits: mx.array  # uint32; token i is bit i % 32 of word i // 32, set if allowed
    indices: mx.array  # int32: the index of the row's mask, -1 if all tokens are allowed

    @classmethod
    def of(cls, bits: np.ndarray, indices: Sequence[int]) -> "TokenMasks":
        """The masks from ``bits`` [M, ceil(V / 32)] and an index for each row."""
        missing = max(0, MIN_ELEMENTS - bits.shape[1])
        bits = np.pad(bits.astype(np.uint32, copy=False), ((0, 0), (0, missing)))
        return cls(bits=mx.array(bits), indices=mx.array(column(indices, np.int32, -1)))


class Sampled(NamedTuple):
    """The sampled tokens of a batch, as arrays that may not be evaluated yet.

    A row without a distribution has a log-probability of NaN.

    Shapes:
        tokens [B] int32, logprobs [B] float32; if requested, the K most likely tokens by raw
        logit: top_ids [B, K] int32, top_logprobs [B, K] float32
    """

    tokens: mx.array
    logprobs: mx.array
    top_ids: mx.array | None = None
    top_logprobs: mx.array | None = None


class SampleFunction(Protocol):
    """``sample_ops``, or a function with the same results."""

    def __call__(
        self,
        logits: mx.array,
        columns: SamplingColumns,
        positions: np.ndarray,
        adjustments: Adjustments | None = None,
        masks: TokenMasks | None = None,
        num_top_logprobs: int = 0,
        *,
        needs_logprobs: bool = True,
    ) -> Sampled: ...
