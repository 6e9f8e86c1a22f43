"""Pooling: the hidden states of a padded batch become one vector for each row.

Float32 math and results, for any dtype of the model. Reference: the ``Pooling`` and
``Normalize`` modules of sentence-transformers.

``pool_metal`` runs on Apple GPUs, ``pool_ops`` on every device; ``backend.choose`` picks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import column

PoolingMode = Literal["mean", "cls", "last"]
SMALLEST = 2.0**-126  # a GPU rounds smaller numbers to zero, so they count as zero here
MODES: tuple[PoolingMode, ...] = ("mean", "cls", "last")


@dataclass(frozen=True)
class PoolingColumns:
    """The pooling parameters of a batch of B rows, one column for each parameter.

    Shapes:
        every column: [max(B, 8)]
    """

    lengths: mx.array  # int32: the positions before the padding
    modes: mx.array  # int32, an index into MODES
    dimensions: mx.array  # int32: components that are kept; the other ones become zero

    @classmethod
    def of(
        cls, lengths: Sequence[int], modes: Sequence[PoolingMode], dimensions: Sequence[int]
    ) -> "PoolingColumns":
        """The columns from one value for each row."""
        return cls(
            lengths=mx.array(column(lengths, np.int32, 0)),
            modes=mx.array(column([MODES.index(mode) for mode in modes], np.int32, 0)),
            dimensions=mx.array(column(dimensions, np.int32, 0)),
        )


class PoolFunction(Protocol):
    """``pool_ops``, or a function with the same results."""

    def __call__(
        self, hidden: mx.array, columns: PoolingColumns, *, normalize: bool
    ) -> mx.array: ...


def pool_ops(hidden: mx.array, columns: PoolingColumns, *, normalize: bool) -> mx.array:
    """Pool each row over its first ``lengths[b]`` positions; padding changes nothing.

    ``mean`` averages, ``cls`` takes the first position, ``last`` the last one. The vector is
    then cut to its first ``dimensions[b]`` components (the other ones become zero) and, with
    ``normalize``, divided by its L2 norm. A row of length zero, or of zeros alone, gives zeros.
    Finite hidden states give finite vectors. The vector of a row with NaN or infinity is not
    finite, and all NaN if normalised.

    Shapes:
        hidden [B, L, D] of any float dtype -> [B, D] float32
    """
    B, L, _ = hidden.shape
    lengths, modes = columns.lengths[:B, None], columns.modes[:B, None]  # [B, 1]
    positions = mx.arange(L)
    is_mean, is_cls = modes == MODES.index("mean"), modes == MODES.index("cls")
    is_picked = mx.where(is_cls, positions == 0, positions == lengths - 1)
    is_used = (positions < lengths) & (is_mean | is_picked)  # [B, L]
    share = 1 / mx.where(is_mean, mx.maximum(lengths, 1), 1)
    # A select, not a product: padding may hold infinities, and 0 * inf is NaN.
    states = mx.where(is_used[..., None], hidden.astype(mx.float32), 0.0)
    pooled = (states * share[..., None]).sum(axis=1)
    return finish(pooled, columns.dimensions[:B], normalize=normalize)


def finish(vectors: mx.array, dimensions: mx.array, *, normalize: bool) -> mx.array:
    """Cut each vector to ``dimensions[b]``; with ``normalize``, scale it to unit length.

    Shapes:
        vectors [B, D] float32, dimensions [B] int -> [B, D] float32
    """
    _, D = vectors.shape
    vectors = mx.where(mx.arange(D) < dimensions[:, None], vectors, 0.0)
    if not normalize:
        return vectors
    # Divide by the largest component first, so that squares neither overflow nor vanish.
    largest = mx.abs(vectors).max(axis=-1, keepdims=True)  # NaN if there is a NaN
    largest = mx.where(largest < mx.inf, largest, mx.nan)
    scaled = vectors / mx.where(largest < SMALLEST, mx.inf, largest)
    norm = mx.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / mx.where(norm == 0, 1.0, norm)
