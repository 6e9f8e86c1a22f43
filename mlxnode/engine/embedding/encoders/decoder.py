"""Decoders that generate no text (such as Qwen3-Embedding): mlx-lm models without the head."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.utils import _get_classes, load_model

from mlxnode.engine import cpu
from mlxnode.engine.loader.quantize import quantize_weights
from mlxnode.errors import ModelError

_HEADS = ("lm_head.", "score.")  # what follows the backbone


class Decoder:
    """The backbone of a causal model.

    Attention is causal, so no token attends to padding on its right.

    Shapes:
        ids [B, L] int, lengths [B] int -> [B, L, hidden_size]
    """

    def __init__(self, backbone: nn.Module):
        self._backbone = backbone

    def embed_tokens(self, ids: mx.array) -> mx.array:
        """The embeddings of token ids, [N] -> [N, D]: the rows of a tied head."""
        embed: Callable[[mx.array], mx.array] = self._backbone["embed_tokens"]
        return embed(ids)

    def parameters(self) -> dict[str, Any]:
        """The weights, as ``nn.Module`` returns them."""
        return self._backbone.parameters()

    def update(self, parameters: dict[str, Any]) -> None:
        """Replace the weights."""
        self._backbone.update(parameters)

    def __call__(self, ids: mx.array, lengths: mx.array) -> mx.array:
        return self._backbone(ids)


def open_decoder(folder: Path, config: dict[str, Any], bits: int | None = None) -> Decoder:
    """A causal embedding model from ``folder``, quantized or not; weights are not evaluated.

    Weights that are not quantized get ``bits``, if that is not None.

    Raises:
        ModelError: mlx-lm does not know the architecture, the model is not a causal decoder,
            or the weights do not fit.
    """
    if config.get("use_bidirectional_attention") or config.get("is_causal") is False:
        raise ModelError(f"{folder}: a decoder with bidirectional attention is not supported")
    try:
        # Embedding models are published without a head; a tied head needs no weights.
        model, _ = load_model(
            folder,
            lazy=True,
            model_config={"tie_word_embeddings": True},
            get_model_classes=_embedder_classes,
        )
    except (ValueError, TypeError, KeyError, FileNotFoundError, RuntimeError) as error:
        raise ModelError(f"{folder}: {error}") from error
    if not isinstance(backbone := getattr(model, "model", None), nn.Module):
        raise ModelError(f"{folder}: {config['model_type']} has no backbone to embed with")
    if bits is not None:
        quantize_weights(model, bits)
    cpu.install(backbone)
    return Decoder(backbone)


def _embedder_classes(config: dict[str, Any]) -> tuple[type[nn.Module], type]:
    """mlx-lm's classes; the model class also accepts weights of the backbone alone."""
    model_class, args_class = _get_classes(config)

    class Embedder(model_class):
        def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
            if not any(name.startswith("model.") for name in weights):
                weights = {f"model.{name}": array for name, array in weights.items()}
            weights = {k: v for k, v in weights.items() if not k.startswith(_HEADS)}
            inherited = getattr(super(), "sanitize", None)
            return inherited(weights) if inherited else weights

    return Embedder, args_class
