"""Attention in blocks gives the results of MLX's fused attention."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import base
from mlx_lm.models.cache import KVCache

from mlxnode.engine.cpu import attention
from mlxnode.engine.embedding.encoders.checkpoint import mask_padding


def normal(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32))


@pytest.mark.parametrize("before", [0, 1, 77, 700])
@pytest.mark.parametrize("count", [1, 2, 16, 33, 300])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (9, 3)])
@pytest.mark.parametrize("value_size", [16, 24, 8])
def test_prompts_attend_as_in_one_piece(before, count, heads, value_size):
    num_heads, num_kv = heads
    cache = KVCache()
    sizes = 16, value_size
    if before:
        cache.update_and_fetch(*(normal(size, 1, num_kv, before, size) for size in sizes))
    mask = cache.make_mask(count, return_array=False, window_size=None)
    keys, values = cache.update_and_fetch(
        *(normal(1 + size, 1, num_kv, count, size) for size in sizes)
    )
    queries = normal(4, 1, num_heads, count, 16)
    expected = attention._batched(queries, keys, values, cache, 0.25, mask)
    got = attention.attend(queries, keys, values, cache, 0.25, mask)
    assert got.shape == expected.shape
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_window_is_left_to_the_fused_attention():
    cache = KVCache()
    keys, values = cache.update_and_fetch(*(normal(seed, 1, 2, 20, 16) for seed in (0, 1)))
    queries = normal(2, 1, 2, 20, 16)
    mask = base.create_causal_mask(20, window_size=5)
    expected = attention._batched(queries, keys, values, cache, 0.25, mask)
    assert np.array_equal(attention.attend(queries, keys, values, cache, 0.25, mask), expected)


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (5, 20), (9, 130), (2, 300), (1, 700)])
@pytest.mark.parametrize("window", [None, 9])
def test_encoders_attend_as_in_one_piece(rows, length, window):
    q, k, v = (normal(seed, rows, 6, length, 16) for seed in range(3))
    lengths = mx.array([max(1, length - 7 * i) for i in range(rows)])
    mask = mask_padding(lengths, length)
    if window is not None:
        distance = mx.abs(mx.arange(length)[:, None] - mx.arange(length))
        mask = (mask & (distance <= window)) | (distance == 0)
    expected = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=mask)
    got = attention.attend_in_blocks(q, k, v, scale=0.25, mask=mask)
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5)
