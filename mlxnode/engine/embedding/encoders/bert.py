"""BERT (Devlin et al., 2018), the encoder without pooler and heads.

Modules and parameters are named as in Hugging Face checkpoints.
"""

from dataclasses import dataclass
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import BaseModelArgs

from mlxnode.engine.embedding.encoders.activations import activation
from mlxnode.engine.embedding.encoders.checkpoint import mask_padding


@dataclass
class BertConfig(BaseModelArgs):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    pad_token_id: int = 0
    position_embedding_type: str = "absolute"
    is_decoder: bool = False

    def __post_init__(self):
        if self.position_embedding_type != "absolute":
            raise ValueError(
                f"position_embedding_type {self.position_embedding_type!r} is not supported"
            )
        if self.is_decoder:
            raise ValueError("is_decoder = true is not supported")


class BertEmbeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self._last_position = config.max_position_embeddings - 1

    def positions(self, ids: mx.array) -> mx.array:
        return mx.arange(ids.shape[1])

    def __call__(self, ids: mx.array, types: mx.array | None) -> mx.array:
        # Padding may reach past the table, where a lookup reads undefined memory.
        positions = mx.minimum(self.positions(ids), self._last_position)
        first_type = self.token_type_embeddings.weight[0]
        kinds = first_type if types is None else self.token_type_embeddings(types)
        words = self.word_embeddings(ids)
        return self.LayerNorm(words + self.position_embeddings(positions) + kinds)


class BertSelfAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        D = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(D, D)
        self.value = nn.Linear(D, D)
        # An attribute, so that the CPU backend can have a function of its own.
        self._attend = mx.fast.scaled_dot_product_attention

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        B, L, D = x.shape
        head_dim = D // self.num_heads

        def heads(projected: mx.array) -> mx.array:  # [B, L, D] -> [B, H, L, D/H]
            return projected.reshape(B, L, self.num_heads, head_dim).transpose(0, 2, 1, 3)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        out = self._attend(q, k, v, scale=head_dim**-0.5, mask=mask)
        return out.transpose(0, 2, 1, 3).reshape(B, L, D)


class BertOutput(nn.Module):
    """Projection, residual and norm: the end of the attention and of the MLP of a layer."""

    def __init__(self, inputs: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(x) + residual)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config.hidden_size, config)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        return self.output(self.self(x, mask), x)


class BertIntermediate(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self._activation = activation(config.hidden_act)

    def __call__(self, x: mx.array) -> mx.array:
        return self._activation(self.dense(x))


class BertLayer(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config.intermediate_size, config)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertStack(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = [BertLayer(config) for _ in range(config.num_hidden_layers)]

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Bert(nn.Module):
    """Token ids to hidden states. ``types`` tell two texts apart; None: there is one.

    Shapes:
        ids [B, L] int, lengths [B] int, each at least 1, types [B, L] int, 0 or 1
        -> [B, L, hidden_size]
    """

    Config = BertConfig
    prefixes: ClassVar[tuple[str, ...]] = ("bert.",)
    ignored: ClassVar[tuple[str, ...]] = (
        "pooler.",
        "cls.",
        "lm_head.",
        "classifier.",
        "qa_outputs.",
        "embeddings.position_ids",
        "embeddings.token_type_ids",
    )

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_types = config.type_vocab_size
        self.embeddings = self.make_embeddings(config)
        self.encoder = BertStack(config)

    def make_embeddings(self, config: BertConfig) -> BertEmbeddings:
        return BertEmbeddings(config)

    def __call__(
        self, ids: mx.array, lengths: mx.array, types: mx.array | None = None
    ) -> mx.array:
        _, L = ids.shape
        return self.encoder(self.embeddings(ids, types), mask_padding(lengths, L))
