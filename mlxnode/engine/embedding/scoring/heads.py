"""Heads: from the hidden states of a pair to one logit, in float32.

Modules and parameters are named as in Hugging Face checkpoints.
"""

import json
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import mlx.core as mx
import mlx.nn as nn

from mlxnode.engine.embedding.encoders import Encoder
from mlxnode.engine.embedding.encoders.activations import activation
from mlxnode.engine.embedding.encoders.checkpoint import read_safetensors, set_weights
from mlxnode.engine.embedding.encoders.decoder import Decoder
from mlxnode.engine.embedding.scoring.verdict import verdict_row
from mlxnode.errors import ModelError
from mlxnode.models.rerank.config import RerankerConfig
from mlxnode.models.served import ServedModel


class Head(Protocol):
    """Shapes: hidden [B, L, D] float32, lengths [B] int -> logits [B]."""

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array: ...


class ClassifierHead(nn.Module):
    """Base of the heads of encoders; ``names`` are the starts of their weights' names."""

    prefixes: ClassVar[tuple[str, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ("classifier.",)

    def __init__(self, config: dict[str, Any]):
        super().__init__()

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array:
        raise NotImplementedError


class BertHead(ClassifierHead):
    """The pooler of BERT (the first token, a dense layer, tanh), and a linear layer."""

    prefixes: ClassVar[tuple[str, ...]] = ("bert.",)
    names: ClassVar[tuple[str, ...]] = ("pooler.", "classifier.")

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        size = config["hidden_size"]
        self.pooler = {"dense": nn.Linear(size, size)}
        self.classifier = nn.Linear(size, 1)

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array:
        pooled = mx.tanh(self.pooler["dense"](hidden[:, 0]))  # [B, D]
        return self.classifier(pooled)[:, 0]


class RobertaHead(ClassifierHead):
    """The first token, a dense layer with an activation, and a linear layer."""

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        size = config["hidden_size"]
        self.classifier = {"dense": nn.Linear(size, size), "out_proj": nn.Linear(size, 1)}
        self._activation = self.activation_of(config)

    def activation_of(self, config: dict[str, Any]) -> Callable[[mx.array], mx.array]:
        return mx.tanh

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array:
        pooled = self._activation(self.classifier["dense"](hidden[:, 0]))  # [B, D]
        return self.classifier["out_proj"](pooled)[:, 0]


class ElectraHead(RobertaHead):
    """The same with GELU, whatever the activation of the layers."""

    def activation_of(self, config: dict[str, Any]) -> Callable[[mx.array], mx.array]:
        return nn.gelu


class ModernBertHead(ClassifierHead):
    """The first token or the mean, a dense layer with activation and norm, a linear layer."""

    names: ClassVar[tuple[str, ...]] = ("head.", "classifier.")

    def __init__(self, config: dict[str, Any]):
        super().__init__(config)
        size = config["hidden_size"]
        self.head = {
            "dense": nn.Linear(size, size, bias=config.get("classifier_bias", False)),
            "norm": nn.LayerNorm(
                size, eps=config.get("norm_eps", 1e-5), bias=config.get("norm_bias", False)
            ),
        }
        self.classifier = nn.Linear(size, 1)
        self._activation = activation(config.get("classifier_activation", "gelu"))
        self._is_mean = config.get("classifier_pooling", "cls") == "mean"

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array:
        pooled = _mean(hidden, lengths) if self._is_mean else hidden[:, 0]  # [B, D]
        pooled = self.head["norm"](self._activation(self.head["dense"](pooled)))
        return self.classifier(pooled)[:, 0]


class LastTokenHead:
    """One linear layer at the last token of a decoder. Shapes: row [D]."""

    def __init__(self, row: mx.array):
        self._row = row.astype(mx.float32)
        mx.eval(self._row)

    def __call__(self, hidden: mx.array, lengths: mx.array) -> mx.array:
        last = mx.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)
        return last[:, 0] @ self._row


_CLASSIFIERS: dict[str, type[ClassifierHead]] = {
    "bert": BertHead,
    "camembert": RobertaHead,
    "electra": ElectraHead,
    "modernbert": ModernBertHead,
    "roberta": RobertaHead,
    "xlm-roberta": RobertaHead,
}


def load_head(served: ServedModel, config: RerankerConfig, encoder: Encoder) -> Head:
    """Load the head of ``served``.

    Raises:
        ModelError: a weight or an option of the head is missing or not supported.
    """
    if isinstance(encoder, Decoder):
        if config.head == "verdict":
            return LastTokenHead(verdict_row(served.folder, encoder))
        return LastTokenHead(_score_row(served))
    settings = json.loads((served.folder / "config.json").read_text(encoding="utf-8"))
    head_class = _CLASSIFIERS[served.architecture]
    try:
        head = head_class(settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{served.folder / 'config.json'}: {error}") from error
    weights = {}
    for name, array in read_safetensors(served.folder).items():
        for prefix in head_class.prefixes:
            name = name.removeprefix(prefix)
        if name.startswith(head_class.names):
            weights[name] = array
    set_weights(head, weights, served.folder)
    head.set_dtype(mx.float32)
    mx.eval(head.parameters())
    return head


def _score_row(served: ServedModel) -> mx.array:
    row = read_safetensors(served.folder).get("score.weight")
    if row is None or row.shape[0] != 1:
        raise ModelError(f"{served.folder}: there is no score.weight of one label")
    return row[0]


def _mean(hidden: mx.array, lengths: mx.array) -> mx.array:
    """The mean of the states that are not padding: [B, L, D] -> [B, D]."""
    _, L, _ = hidden.shape
    real = (mx.arange(L) < lengths[:, None])[:, :, None]
    return mx.where(real, hidden, 0).sum(axis=1) / lengths[:, None]
