"""Draw one token per row of a batch of logits, each row with parameters of its own.

Exact semantics, in this order: bias, penalties (repetition, frequency, presence), mask,
temperature, top-k, top-p over what top-k left, min-p relative to the most likely token. Tokens
are ordered by logit, ties by lower id.

One uniform number per row, from its seed and position, inverts the cumulative distribution
of what is left: in that order for a truncated row (top-k, top-p or min-p), otherwise in the
order of ``GROUPS``. So a row depends on nothing but itself, in any batch and on any device.

Log-probabilities are those of the model's raw logits, whatever the sampling parameters.

``sample_metal`` runs on Apple GPUs, ``sample_ops`` anywhere; ``backend.choose`` picks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import MIN_ELEMENTS, column

MAX_TOP_LOGPROBS = 20
LOG2_E = math.log2(math.e)

# An untruncated row is drawn from in two steps: among GROUPS groups of tokens, then within
# one. Token i belongs to group i // BLOCK % GROUPS, so that likely tokens, often neighbours,
# spread over all groups. The kernel has a SIMD group for each, and reads only one twice.
GROUPS = 16
BLOCK = 128

_COLDEST = 1e-30  # temperatures below would overflow 1 / temperature


@dataclass(frozen=True)
class SamplingColumns:
    """The sampling parameters of a batch of B rows, one column each.

    Shapes:
        every column: [max(B, 8)], the rows after B are neutral

    What is not an ``mx.array`` tells, without asking the device, which work is needed.
    """

    scale: mx.array  # float32, log2(e) / temperature: a weight is 2**(logit * scale)
    top_k: mx.array  # int32, 0 for none
    top_p: mx.array  # float32, 1 for none
    min_p: mx.array  # float32, 0 for none
    is_greedy: mx.array  # bool
    is_truncated: mx.array  # bool, by top-k, top-p or min-p
    seeds: np.ndarray  # uint64
    truncated_rows: np.ndarray  # int32, the index of each truncated row
    all_greedy: bool
    any_greedy: bool
    any_full: bool  # some row is drawn from the whole vocabulary

    @classmethod
    def of(
        cls,
        temperature: Sequence[float],
        top_k: Sequence[int],
        top_p: Sequence[float],
        min_p: Sequence[float],
        seeds: Sequence[int],
    ) -> "SamplingColumns":
        """Temperature 0 is greedy; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off."""
        heat = column(temperature, np.float32, 0)
        k = column(top_k, np.int32, 0)
        p = column(top_p, np.float32, 1)
        m = column(min_p, np.float32, 0)
        greedy = heat == 0
        truncated = ~greedy & ((k > 0) | (p < 1) | (m > 0))
        scale = np.where(greedy, 1, LOG2_E / np.maximum(heat, _COLDEST))
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
    """Sparse changes to the logits: a bias, and penalties for tokens of the text so far.

    Shapes:
        ids, bias, counts: [B, P], P at least 8; penalties: [max(B, 8)]

    A row's ``ids`` ascend; what is left of the row repeats its last entry. A row without any
    has the id 0, a bias of 0 and a count of -1.
    """

    ids: mx.array  # int32
    bias: mx.array  # float32
    counts: mx.array  # int32: times generated; 0 in the prompt alone; -1 in neither
    repetition: mx.array  # float32, 1 for none: divides a positive logit, multiplies others
    frequency: mx.array  # float32: subtracted once for each time that a token was generated
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
        """Of each row: biases and counts by token id."""
        rows = [sorted(b.keys() | c.keys()) for b, c in zip(bias, counts, strict=True)]
        # Powers of two, so that few different shapes come up.
        width = 1 << (max(MIN_ELEMENTS, *map(len, rows)) - 1).bit_length()
        shape = (len(rows), width)
        table = np.zeros(shape, [("id", np.int32), ("bias", np.float32), ("count", np.int32)])
        table["count"] = -1
        for entries, ids, b, c in zip(table, rows, bias, counts, strict=True):
            if ids:
                found = [(i, b.get(i, 0.0), c.get(i, -1)) for i in ids]
                entries[: len(ids)] = found
                entries[len(ids) :] = found[-1]
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
    """Which tokens a row may draw, for the rows under a grammar.

    Shapes:
        bits: [M, max(ceil(V / 32), 8)], rows: [max(B, 8)]
    """

    bits: mx.array  # uint32; token i is bit i % 32 of word i // 32, set if allowed
    rows: mx.array  # int32: which row of ``bits``, -1 for a row that may draw any token

    @classmethod
    def of(cls, bits: np.ndarray, rows: Sequence[int]) -> "TokenMasks":
        missing = max(0, MIN_ELEMENTS - bits.shape[1])
        bits = np.pad(bits.astype(np.uint32, copy=False), ((0, 0), (0, missing)))
        return cls(bits=mx.array(bits), rows=mx.array(column(rows, np.int32, -1)))


class Sampled(NamedTuple):
    """The drawn tokens. A row without a distribution has a log-probability of NaN.

    Shapes:
        tokens [B] int32, logprobs [B] float32; if asked for, the most likely tokens by raw
        logit: top_ids [B, K] int32, top_logprobs [B, K] float32
    """

    tokens: mx.array
    logprobs: mx.array
    top_ids: mx.array | None = None
    top_logprobs: mx.array | None = None
