"""Attention on the CPU, in blocks that fit the processor's cache and skip masked keys.

On a GPU, MLX's fused kernel skips the keys that the mask hides. On the CPU it computes all of
them, and the products of padding were the largest part of a decode step with sequences of
unequal lengths. Here rows attend one by one, each over its own length, with the query heads
that share keys in one product.

Prompts gain as much: no key later than a block of queries is multiplied with it, and the
softmax is made of operations that MLX has vector code for.
"""

import functools
from typing import Any

import mlx.core as mx
from mlx_lm.models import base
from mlx_lm.models.cache import KVCache

from mlxnode.engine.cpu.abridged import num_left_out
from mlxnode.engine.kvcache.layers.plain import SlotCache
from mlxnode.kernels.exp2 import exp2
from mlxnode.kernels.sample import LOG2_E

_NUM_TRACED = 3  # blocks of a row that a trace shows; the others need as much memory

_batched = base.scaled_dot_product_attention
_LARGE = 1 << 15  # scores; a softmax of fewer is faster in one operation
_BLOCK = 1 << 18  # scores in a block, so that they stay in the processor's cache


def attend(
    queries: mx.array,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: Any,
    sinks: mx.array | None = None,
) -> mx.array:
    """``mlx_lm.models.base.scaled_dot_product_attention``, row by row if the mask is causal.

    The types are those of mlx-lm: quantized keys and values are tuples.

    Shapes:
        queries: [B, H, N, D], N new tokens of each row; keys: [B, K, L, D], K heads;
        values: [B, K, L, V] -> [B, H, N, V]
    """
    batch, heads, count, size = queries.shape
    lengths = _row_lengths(cache, mask, batch, count)
    if lengths is None or sinks is not None or queries.dtype != mx.float32:
        return _batched(queries, keys, values, cache, scale, mask, sinks)
    queries = (scale * queries).reshape(batch, keys.shape[1], -1, count, size)
    rows = [
        _attend_row(queries[i], keys[i, :, :length], values[i, :, :length])
        for i, length in enumerate(lengths)
    ]
    return mx.stack(rows).reshape(batch, heads, count, values.shape[-1])


def attend_in_blocks(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array
) -> mx.array:
    """``mx.fast.scaled_dot_product_attention`` with a mask, for a few rows or heads at a time.

    Shapes:
        queries, keys, values: [B, H, L, D]; mask: [B or 1, 1, L or 1, L] bool, true for keys
        that take part -> [B, H, L, D]
    """
    B, H, L, _ = queries.shape
    penalty = mx.broadcast_to(mx.where(mask, 0.0, -mx.inf), (B, 1, mask.shape[2], L))
    num_heads = min(max(_BLOCK // (L * L), 1), H)
    num_rows = max(_BLOCK // (H * L * L), 1)
    blocks = []
    for b in range(0, B, num_rows):
        rows = slice(b, b + num_rows)
        parts = []
        for h in range(0, H, num_heads):
            q, k, v = (x[rows, h : h + num_heads] for x in (queries, keys, values))
            parts.append(_weigh(scale * q @ k.swapaxes(-1, -2) + penalty[rows], v))
        blocks.append(mx.concatenate(parts, axis=1))
    return mx.concatenate(blocks)


def _row_lengths(cache: Any, mask: Any, batch: int, count: int) -> list[int] | None:
    """The tokens of each row, new tokens included; None if the mask is not plain causal."""
    if isinstance(cache, SlotCache) and not cache.is_quantized and cache.slots.is_causal(mask):
        return [length + count for length in cache.slots.lengths]
    is_causal = isinstance(mask, str) or (mask is None and count == 1)
    if type(cache) is KVCache and is_causal:
        return [cache.offset] * batch
    return None


def _attend_row(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """The last N tokens of a sequence attend to it, in blocks of queries.

    Shapes:
        queries: [H, G, N, D], G query heads for each of H; keys: [H, L, D];
        values: [H, L, V] -> [H, G, N, V]
    """
    H, G, N, _ = queries.shape
    L, V = keys.shape[1], values.shape[2]
    step = min(max(_BLOCK // (H * G * L), 16), N)
    starts, blocks = list(range(0, N, step)), []
    if left_out := num_left_out(len(starts), _NUM_TRACED):
        starts = starts[left_out:]
        blocks.append(mx.zeros((H, G, starts[0], V), queries.dtype))
    for start in starts:
        block = queries[:, :, start : start + step]
        end = L - N + start + block.shape[2]  # the keys that the block's last token sees
        blocks.append(_attend_block(block, keys[:, :end], values[:, :end]))
    return blocks[0] if len(blocks) == 1 else mx.concatenate(blocks, axis=2)


def _attend_block(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    H, G, N, D = queries.shape
    L, V = keys.shape[1], values.shape[2]
    scores = queries.reshape(H, G * N, D) @ keys.swapaxes(-1, -2)  # [H, G * N, L]
    if N > 1:
        scores = (scores.reshape(H, G, N, L) + _causal_penalty(N, L)).reshape(H, G * N, L)
    return _weigh(scores, values).reshape(H, G, N, V)


def _weigh(scores: mx.array, values: mx.array) -> mx.array:
    """The softmax of ``scores`` [..., N, L], times ``values`` [..., L, D]."""
    if scores.size < _LARGE:
        return mx.softmax(scores, axis=-1, precise=True) @ values
    weights = exp2((scores - scores.max(axis=-1, keepdims=True)) * LOG2_E)
    return (weights @ values) / weights.sum(axis=-1, keepdims=True)


@functools.lru_cache(maxsize=64)
def _causal_penalty(count: int, length: int) -> mx.array:
    """0 where one of the last ``count`` tokens sees a key, -inf elsewhere; [count, length].

    All layers of a forward pass share the array.
    """
    return mx.where(mx.tri(count, length, length - count, dtype=mx.bool_), 0.0, -mx.inf)


def forget_masks() -> None:
    """Forget the masks of earlier passes: those of a trace are arrays without values."""
    _causal_penalty.cache_clear()
