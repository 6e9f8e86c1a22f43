"""The verdict of a decoder: how much more likely "yes" is than "no" as the next token.

The difference of two logits is one product with the difference of two rows of the head, and
its sigmoid is the probability of "yes" among the two (Qwen3-Reranker's model card).
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxnode.engine.embedding.encoders.checkpoint import read_safetensors
from mlxnode.engine.embedding.encoders.decoder import Decoder
from mlxnode.models.rerank.tokenizer import verdict_ids

_HEAD = "lm_head"


def verdict_row(folder: Path, decoder: Decoder, ids: tuple[int, int] | None = None) -> mx.array:
    """The row of "yes" less that of "no", of the head of the model in ``folder``.

    ``ids`` are those of "no" and "yes", by default as its tokenizer has them.

    Raises:
        ModelError: the tokenizer has no such tokens.
    """
    no_and_yes = mx.array(ids or verdict_ids(folder))
    rows = _head_rows(folder, no_and_yes)
    if rows is None:  # tied to the embeddings
        rows = decoder.embed_tokens(no_and_yes)
    rows = rows.astype(mx.float32)  # [2, D]
    return rows[1] - rows[0]


def _head_rows(folder: Path, ids: mx.array) -> mx.array | None:
    """The rows of the model's own head, if it has one; it can be quantized."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = read_safetensors(folder)
    weight = weights.get(f"{_HEAD}.weight")
    if weight is None or config.get("tie_word_embeddings"):
        return None
    scales = weights.get(f"{_HEAD}.scales")
    if scales is None:
        return weight[ids]
    quantization: dict[str, Any] = config["quantization"]
    own = quantization.get(_HEAD)
    settings = own if isinstance(own, dict) else quantization
    biases = weights.get(f"{_HEAD}.biases")
    return mx.dequantize(
        weight[ids],
        scales[ids],
        None if biases is None else biases[ids],
        group_size=settings.get("group_size", 64),
        bits=settings.get("bits", 4),
        mode=settings.get("mode", "affine"),
    )
