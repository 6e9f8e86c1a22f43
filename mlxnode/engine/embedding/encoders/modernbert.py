"""ModernBERT (Warner et al., 2024): rotary positions, GeGLU, local and global attention.

Modules and parameters are named as in Hugging Face checkpoints.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import BaseModelArgs

from mlxnode.engine.embedding.encoders.activations import activation
from mlxnode.engine.embedding.encoders.checkpoint import mask_padding

GLOBAL, LOCAL = "full_attention", "sliding_attention"


@dataclass
class ModernBertConfig(BaseModelArgs):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_activation: str = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    local_attention: int = 128  # the window: half of the tokens are on each side
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0
    layer_types: list[str] | None = None
    rope_parameters: dict[str, dict[str, Any]] | None = None

    def layer_type(self, index: int) -> str:
        """GLOBAL or LOCAL; newer files list the types, older files have a period."""
        if self.layer_types is not None:
            return self.layer_types[index]
        return LOCAL if index % self.global_attn_every_n_layers else GLOBAL

    def rope_theta(self, layer_type: str) -> float:
        """The rope base; newer files have ``rope_parameters``, older files a key for each type.

        Raises:
            ValueError: the rope is not a plain one.
        """
        default = self.global_rope_theta if layer_type == GLOBAL else self.local_rope_theta
        rope = (self.rope_parameters or {}).get(layer_type) or {}
        if rope.get("rope_type", "default") != "default":
            raise ValueError(f"rope_type {rope['rope_type']!r} is not supported")
        return rope.get("rope_theta", default)


class ModernBertEmbeddings(nn.Module):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.norm(self.tok_embeddings(ids))


class ModernBertAttention(nn.Module):
    def __init__(self, config: ModernBertConfig, layer_type: str):
        super().__init__()
        D = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.Wqkv = nn.Linear(D, 3 * D, bias=config.attention_bias)
        self.Wo = nn.Linear(D, D, bias=config.attention_bias)
        self.rope = nn.RoPE(D // self.num_heads, base=config.rope_theta(layer_type))
        # An attribute, so that the CPU backend can have a function of its own.
        self._attend = mx.fast.scaled_dot_product_attention

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        B, L, D = x.shape
        head_dim = D // self.num_heads
        qkv = self.Wqkv(x).reshape(B, L, 3, self.num_heads, head_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each [B, H, L, D/H]
        out = self._attend(self.rope(q), self.rope(k), v, scale=head_dim**-0.5, mask=mask)
        return self.Wo(out.transpose(0, 2, 1, 3).reshape(B, L, D))


class ModernBertMLP(nn.Module):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        outer, inner = config.hidden_size, config.intermediate_size
        self.Wi = nn.Linear(outer, 2 * inner, bias=config.mlp_bias)
        self.Wo = nn.Linear(inner, outer, bias=config.mlp_bias)
        self._activation = activation(config.hidden_activation)

    def __call__(self, x: mx.array) -> mx.array:
        value, gate = mx.split(self.Wi(x), 2, axis=-1)
        return self.Wo(self._activation(value) * gate)


class ModernBertLayer(nn.Module):
    def __init__(self, config: ModernBertConfig, index: int):
        super().__init__()
        layer_type = config.layer_type(index)
        self.is_local = layer_type == LOCAL
        # The first layer follows the norm of the embeddings.
        self.attn_norm = _norm(config) if index else nn.Identity()
        self.attn = ModernBertAttention(config, layer_type)
        self.mlp_norm = _norm(config)
        self.mlp = ModernBertMLP(config)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        x = x + self.attn(self.attn_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


class ModernBert(nn.Module):
    """Token ids to hidden states.

    Shapes:
        ids [B, L] int, lengths [B] int, each at least 1 -> [B, L, hidden_size]
    """

    Config = ModernBertConfig
    prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    ignored: ClassVar[tuple[str, ...]] = ("head.", "decoder.", "classifier.")

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.embeddings = ModernBertEmbeddings(config)
        self.layers = [ModernBertLayer(config, i) for i in range(config.num_hidden_layers)]
        self.final_norm = _norm(config)
        self._max_distance = config.local_attention // 2

    def __call__(self, ids: mx.array, lengths: mx.array) -> mx.array:
        _, L = ids.shape
        everywhere = mask_padding(lengths, L)
        distance = mx.abs(mx.arange(L)[:, None] - mx.arange(L))  # [L, L]
        # Padding attends to itself: without any key it would become NaN, and spread.
        nearby = (everywhere & (distance <= self._max_distance)) | (distance == 0)
        x = self.embeddings(ids)
        for layer in self.layers:
            x = layer(x, nearby if layer.is_local else everywhere)
        return self.final_norm(x)


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
