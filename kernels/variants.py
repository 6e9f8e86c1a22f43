"""The variants of the Metal kernels, each tried before a request needs it.

MLX compiles a kernel anew for each dtype and each value of its constants. A variant that this
machine does not compile, or computes wrongly, is replaced by its operations; the others stay.
"""

import functools
import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import column
from mlxnode.kernels.pool import MODES, PoolingColumns, PoolingMode, pool_ops
from mlxnode.kernels.pool_metal import pool_metal
from mlxnode.kernels.sample import (
    MAX_TOP_LOGPROBS,
    Adjustments,
    Sampled,
    SamplingColumns,
    TokenMasks,
)
from mlxnode.kernels.sample_metal import sample_metal
from mlxnode.kernels.sample_ops import sample_ops

log = logging.getLogger("mlxnode.kernels")

# Inputs of a check. MLX compiles one variant for all shapes: every input has at least as many
# elements as it passes in device memory (columns.MIN_ELEMENTS).
_ROWS = 8
_VOCABULARY = 4096
_TOLERANCE = 1e-3  # of log-probabilities and components; a wrong result is far from it


class BackendError(RuntimeError):
    """The requested backend does not work on this machine."""


class SampleVariant(NamedTuple):
    """The sampling kernel for logits of a dtype."""

    dtype: mx.Dtype
    has_edits: bool  # adjustments or masks
    has_tops: bool  # top log-probabilities

    def __str__(self) -> str:
        parts = [_name(self.dtype), *(["edits"] * self.has_edits), *(["tops"] * self.has_tops)]
        return f"sample({', '.join(parts)})"

    def check(self) -> None:
        """Compare the kernel with the operations; raises RuntimeError if they differ."""
        arguments = _sampling_case(self.dtype)
        if not self.has_edits:
            arguments = (*arguments[:3], None, None)
        num_tops = MAX_TOP_LOGPROBS if self.has_tops else 0
        result = sample_metal(*arguments, num_tops)
        expected = sample_ops(*arguments, num_tops)
        _compare("tokens", result.tokens, expected.tokens)
        _compare("log-probabilities", result.logprobs, expected.logprobs)
        if result.top_logprobs is not None and expected.top_logprobs is not None:
            _compare("top log-probabilities", result.top_logprobs, expected.top_logprobs)


class PoolVariant(NamedTuple):
    """The pooling kernel for hidden states of a dtype."""

    dtype: mx.Dtype
    normalize: bool

    def __str__(self) -> str:
        return f"pool({_name(self.dtype)}{', normalize' * self.normalize})"

    def check(self) -> None:
        """Compare the kernel with the operations; raises RuntimeError if they differ."""
        hidden, columns = _pooling_case(self.dtype)
        result = pool_metal(hidden, columns, normalize=self.normalize)
        _compare("vectors", result, pool_ops(hidden, columns, normalize=self.normalize))


Variant = SampleVariant | PoolVariant


class VariantResult(NamedTuple):
    """What a check found; ``seconds`` includes compiling, ``error`` is empty if it works."""

    name: str
    works: bool
    seconds: float
    error: str


def variants_of(
    sampling: Iterable[mx.Dtype] = (), pooling: Iterable[mx.Dtype] = ()
) -> list[Variant]:
    """All variants that requests can need, for the dtypes of logits and of hidden states."""
    flags = (False, True)
    variants: list[Variant] = []
    for dtype in dict.fromkeys(sampling):
        variants += [SampleVariant(dtype, edits, tops) for edits in flags for tops in flags]
    for dtype in dict.fromkeys(pooling):
        variants += [PoolVariant(dtype, normalize) for normalize in flags]
    return variants


def check_variants(
    sampling: Iterable[mx.Dtype] = (), pooling: Iterable[mx.Dtype] = ()
) -> list[VariantResult]:
    """Compile and run each variant for the dtypes of logits and of hidden states."""
    return [check_variant(variant) for variant in variants_of(sampling, pooling)]


def check_variant(variant: Variant) -> VariantResult:
    """Compile and run one variant on inputs with a known result."""
    started_at = time.perf_counter()
    error = ""
    try:
        variant.check()
    except (RuntimeError, ValueError) as reason:
        error = str(reason) or repr(reason)
    return VariantResult(str(variant), not error, time.perf_counter() - started_at, error)


class CheckedKernels:
    """Sampling and pooling by the Metal kernels, by operations where a variant does not work.

    A variant that ``warm`` did not try is tried when a call needs it.
    """

    def __init__(self, *, is_strict: bool):
        """``is_strict``: a variant that does not work raises BackendError instead."""
        self._is_strict = is_strict
        self._works: dict[Variant, bool] = {}

    def warm(
        self, *, sampling: Iterable[mx.Dtype] = (), pooling: Iterable[mx.Dtype] = ()
    ) -> None:
        """Try all variants for the dtypes of logits and of hidden states.

        Raises:
            BackendError: one does not work, and strict.
        """
        for variant in variants_of(sampling, pooling):
            self._is_working(variant)

    def sample(
        self,
        logits: mx.array,
        columns: SamplingColumns,
        positions: np.ndarray,
        adjustments: Adjustments | None = None,
        masks: TokenMasks | None = None,
        num_top_logprobs: int = 0,
        *,
        needs_logprobs: bool = True,
    ) -> Sampled:
        """``sample_ops``, by the kernel where it works."""
        has_edits = adjustments is not None or masks is not None
        variant = SampleVariant(logits.dtype, has_edits, num_top_logprobs > 0)
        function = sample_metal if self._is_working(variant) else sample_ops
        return function(
            logits,
            columns,
            positions,
            adjustments,
            masks,
            num_top_logprobs,
            needs_logprobs=needs_logprobs,
        )

    def pool(self, hidden: mx.array, columns: PoolingColumns, *, normalize: bool) -> mx.array:
        """``pool_ops``, by the kernel where it works."""
        works = self._is_working(PoolVariant(hidden.dtype, normalize))
        return (pool_metal if works else pool_ops)(hidden, columns, normalize=normalize)

    def _is_working(self, variant: Variant) -> bool:
        if variant not in self._works:
            result = check_variant(variant)
            if not result.works:
                self._report(result)
            self._works[variant] = result.works
        return self._works[variant]

    def _report(self, result: VariantResult) -> None:
        reason = result.error.splitlines()[0]
        if self._is_strict:
            log.debug("%s: %s", result.name, result.error)
            raise BackendError(
                f"[engine] kernels: Metal's {result.name} does not work here: {reason}"
            )
        log.warning("operations replace the Metal kernel %s: %s", result.name, reason)
        log.debug("%s: %s", result.name, result.error)


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def _compare(what: str, result: mx.array, expected: mx.array) -> None:
    if result.dtype == mx.int32:
        is_right = mx.array_equal(result, expected)
    else:
        is_right = mx.allclose(result, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    if not is_right.item():
        raise RuntimeError(f"{what} are {result.tolist()}, not {expected.tolist()}")


@functools.cache
def _sampling_case(
    dtype: mx.Dtype,
) -> tuple[mx.array, SamplingColumns, np.ndarray, Adjustments, TokenMasks]:
    """Logits with a peak in each row, for greedy, untruncated and truncated rows.

    The random numbers are far enough from the limits of their tokens for any device's rounding.
    """
    random = np.random.default_rng(0)
    logits = random.normal(0, 1, (_ROWS, _VOCABULARY)).astype(np.float32)
    rows = np.arange(_ROWS)
    logits[rows, 7 * rows] = 10  # three quarters of the mass
    logits[0, 200] = 6.6  # the most likely one, if every penalty lowers the peak of this row
    columns = SamplingColumns.of(
        temperature=[0.0, 1.0, 0.7, 1.0, 1.2, 0.5, 1.0, 0.0],
        top_k=[0, 0, 0, 40, 900, 20, 0, 0],
        top_p=[1.0, 1.0, 0.9, 1.0, 1.0, 0.8, 0.95, 1.0],
        min_p=[0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.05, 0.0],
        seeds=range(_ROWS),
    )
    adjustments = Adjustments.of(
        bias=[{100 + row: 11.0, 7 * row: -30.0} if row % 3 else {} for row in range(_ROWS)],
        counts=[{7 * row: 2, 102 + row: 0} for row in range(_ROWS)],
        repetition=[1.3] * _ROWS,
        frequency=[0.5] * _ROWS,
        presence=[0.25] * _ROWS,
    )
    bits = np.full((1, _VOCABULARY // 32), 0x55555555, np.uint32)  # even tokens only
    masks = TokenMasks.of(bits, [0 if row in (1, 3, 7) else -1 for row in range(_ROWS)])
    positions = column(range(_ROWS), np.uint32, 0)
    return mx.array(logits).astype(dtype), columns, positions, adjustments, masks


@functools.cache
def _pooling_case(dtype: mx.Dtype) -> tuple[mx.array, PoolingColumns]:
    """Rows of every mode and several lengths, with padding that must not be read."""
    random = np.random.default_rng(1)
    lengths = [1, 3, 40, 40, 17, 0]
    hidden = random.normal(0, 1, (len(lengths), 40, 96)).astype(np.float32)
    for row, length in enumerate(lengths):
        hidden[row, length:] = np.nan
    modes: list[PoolingMode] = [MODES[row % 3] for row in range(len(lengths))]
    columns = PoolingColumns.of(lengths, modes, [96, 96, 96, 50, 96, 96])
    return mx.array(hidden).astype(dtype), columns
