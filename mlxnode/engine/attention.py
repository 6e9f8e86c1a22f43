"""Attention of a batch on the CPU: every row over its own length, and over nothing else.

On a GPU, mlx's fused kernel skips what the mask hides. On the CPU it does not, and the products
of padding were the largest part of a decode step with texts of unequal lengths. There, rows are
attended to one by one, with the query heads that share keys in one product.
"""

import sys
from typing import Any

import mlx.core as mx
from mlx_lm.models import base

from mlxnode.engine.slots import SlotCache

_NAME = "scaled_dot_product_attention"  # each model's module has it by that name
_batched = base.scaled_dot_product_attention


def install() -> None:
    """Let the models of mlx-lm that are imported use ``attend`` where MLX runs on the CPU."""
    if mx.default_device() != mx.Device(mx.cpu):
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models.") and _NAME in vars(module):
            setattr(module, _NAME, attend)


def attend(
    queries: mx.array,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: Any,
    sinks: mx.array | None = None,
) -> mx.array:
    """``mlx_lm.models.base.scaled_dot_product_attention``, row by row for a batch in slots."""
    if (
        not isinstance(cache, SlotCache)
        or cache.is_quantized
        or sinks is not None
        or not cache.slots.is_plain(mask)
    ):
        return _batched(queries, keys, values, cache, scale, mask, sinks)
    batch, heads, count, size = queries.shape
    num_kv = keys.shape[1]
    group = heads // num_kv  # query heads that share keys
    queries = (scale * queries).reshape(batch, num_kv, group * count, size)
    rows = []
    for i, before in enumerate(cache.slots.lengths):
        length = before + count
        row_keys, row_values = keys[i, :, :length], values[i, :, :length]
        scores = queries[i] @ row_keys.swapaxes(-1, -2)  # [num_kv, group * count, length]
        if count > 1:
            is_seen = mx.tri(count, length, before, dtype=mx.bool_)
            scores = mx.where(mx.tile(is_seen, (group, 1)), scores, -mx.inf)
        rows.append(mx.softmax(scores, axis=-1, precise=True) @ row_values)
    return mx.stack(rows).reshape(batch, heads, count, values.shape[-1])
