"""Pooling: the hidden states of a padded batch to one vector per text.

Float32 math and results, whatever the dtype of the model. Reference: the ``Pooling`` and
``Normalize`` modules of sentence-transformers.
"""

from typing import Literal

import mlx.core as mx

PoolingMode = Literal["mean", "cls", "last"]


def pool(
    hidden: mx.array,
    lengths: mx.array,
    mode: PoolingMode,
    *,
    normalize: bool = True,
    dimensions: mx.array | None = None,
) -> mx.array:
    """Pool each row over its first ``lengths[b]`` positions; the padding never counts.

    ``mean`` averages, ``cls`` takes the first position, ``last`` the last one. A row is
    then cut to its first ``dimensions[b]`` components (the rest becomes zero) and divided
    by its L2 norm, if asked. A row of length zero, or of zeros alone, gives zeros.

    Shapes:
        hidden [B, L, D] of any float dtype, lengths [B] int, dimensions [B] int or None
        -> [B, D] float32
    """
    return pool_ops(hidden, lengths, mode, normalize=normalize, dimensions=dimensions)


def pool_ops(
    hidden: mx.array,
    lengths: mx.array,
    mode: PoolingMode,
    *,
    normalize: bool = True,
    dimensions: mx.array | None = None,
) -> mx.array:
    """``pool`` in MLX operations, for every device."""
    _, L, _ = hidden.shape
    if mode == "mean":
        real = (mx.arange(L) < lengths[:, None])[..., None]  # [B, L, 1]
        # A select, not a product: padding may hold infinities, and 0 * inf is NaN.
        summed = mx.where(real, hidden.astype(mx.float32), 0.0).sum(axis=1)
        pooled = summed / mx.maximum(lengths, 1)[:, None]
    else:
        last = mx.maximum(lengths - 1, 0)
        position = last if mode == "last" else mx.zeros_like(last)
        picked = mx.take_along_axis(hidden, position[:, None, None], axis=1)[:, 0]
        pooled = mx.where(lengths[:, None] > 0, picked.astype(mx.float32), 0.0)
    return finish(pooled, normalize=normalize, dimensions=dimensions)


def finish(
    vectors: mx.array, *, normalize: bool, dimensions: mx.array | None = None
) -> mx.array:
    """Cut each vector to its ``dimensions[b]``, then scale it to unit length, if asked.

    Shapes:
        vectors [B, D] float32, dimensions [B] int or None -> [B, D] float32
    """
    _, D = vectors.shape
    if dimensions is not None:
        vectors = mx.where(mx.arange(D) < dimensions[:, None], vectors, 0.0)
    if not normalize:
        return vectors
    # Divided by the largest component first, so that squares neither overflow nor vanish.
    largest = mx.abs(vectors).max(axis=-1, keepdims=True)
    scaled = vectors / mx.where(largest > 0, largest, 1.0)
    norm = mx.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / mx.where(norm > 0, norm, 1.0)
