"""Embedding models: text encoders written in MLX, one architecture family a file.

An encoder maps ids [B, L] and lengths [B] to hidden states [B, L, D]. The states of an input
depend neither on the padding nor on the other inputs of the batch.
"""

import json
from typing import Any, Protocol

import mlx.core as mx

from mlxnode.engine.embedding.encoders.bert import Bert
from mlxnode.engine.embedding.encoders.checkpoint import load_weights
from mlxnode.engine.embedding.encoders.decoder import open_decoder
from mlxnode.engine.embedding.encoders.electra import Electra
from mlxnode.engine.embedding.encoders.modernbert import ModernBert
from mlxnode.engine.embedding.encoders.roberta import Roberta
from mlxnode.engine.loader.quantize import evaluate_in_turn
from mlxnode.errors import ModelError
from mlxnode.models.served import ServedModel


class Encoder(Protocol):
    """An encoder with its weights."""

    def __call__(self, ids: mx.array, lengths: mx.array) -> mx.array: ...

    def parameters(self) -> dict[str, Any]: ...

    def update(self, parameters: dict[str, Any]) -> Any: ...


ENCODERS = {
    "bert": Bert,
    "camembert": Roberta,
    "electra": Electra,
    "modernbert": ModernBert,
    "roberta": Roberta,
    "xlm-roberta": Roberta,
}


def load_encoder(served: ServedModel) -> Encoder:
    """Load the encoder of ``served`` into memory.

    Raises:
        ModelError: an architecture, option or file is not supported.
    """
    encoder = open_encoder(served)
    if served.quantize:
        evaluate_in_turn(encoder.parameters())
    mx.eval(encoder.parameters())
    return encoder


def open_encoder(served: ServedModel) -> Encoder:
    """The encoder of ``served``; an architecture not in ``ENCODERS`` is a decoder.

    The weights are not evaluated.

    Raises:
        ModelError: an architecture, option or file is not supported.
    """
    if served.weights != served.folder:
        raise ModelError(
            f"{served.weights}: a {served.type} model must be a safetensors folder"
        )
    config = json.loads((served.folder / "config.json").read_text(encoding="utf-8"))
    encoder_class = ENCODERS.get(served.architecture)
    if encoder_class is None:
        return open_decoder(served.folder, config, served.quantize)
    if "quantization" in config:
        raise ModelError(f"{served.folder}: quantized {served.architecture} is not supported")
    try:
        encoder = encoder_class(encoder_class.Config.from_dict(config))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{served.folder / 'config.json'}: {error}") from error
    load_weights(
        encoder, served.folder, prefixes=encoder_class.prefixes, ignored=encoder_class.ignored
    )
    return encoder
