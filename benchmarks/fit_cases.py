"""The configurations of ``benchmarks.fit``: random weights, shapes of many families.

In each, another part dominates: weights, KV caches, or activations.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlxnode.config.demo import demo_tables
from mlxnode.config.tables import ModelConfig, NodeConfig
from mlxnode.models.resolve import resolve_models
from mlxnode.models.served import ServedModel


class Case(NamedTuple):
    """One configuration. ``config`` is a config.json; None for a demo model of the ``type``."""

    config: dict[str, Any] | None
    context: int
    rows: int
    bits: Literal[4, 8] | None = None  # of the KV caches
    quantized: int | None = None  # bits of the weights
    dtype: str = "bfloat16"  # of the weights
    type: str = "chat"


_LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 8000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
_QWEN3 = _LLAMA | {"model_type": "qwen3", "head_dim": 64}
_QWEN2 = _LLAMA | {"model_type": "qwen2"}
_MOE = _QWEN3 | {
    "model_type": "qwen3_moe",
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 256,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
_GEMMA3 = _LLAMA | {
    "model_type": "gemma3_text",
    "head_dim": 64,
    "sliding_window": 256,
    "sliding_window_pattern": 4,
    "query_pre_attn_scalar": 64,
}
_GPT_OSS = _LLAMA | {
    "model_type": "gpt_oss",
    "head_dim": 64,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 128,
    "intermediate_size": 512,
    "tie_word_embeddings": False,
    "rope_scaling": {"rope_type": "default"},
}
_MAMBA2 = {
    "model_type": "mamba2",
    "num_heads": 16,
    "head_dim": 64,
    "vocab_size": 8000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "state_size": 64,
    "num_hidden_layers": 12,
    "layer_norm_epsilon": 1e-5,
    "conv_kernel": 4,
    "n_groups": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "tie_word_embeddings": True,
    "time_step_limit": [0.0, 100.0],
    "time_step_rank": "auto",
    "max_position_embeddings": 4096,
}
_DEEPSEEK = _LLAMA | {
    "model_type": "deepseek_v3",
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "moe_intermediate_size": 256,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "kv_lora_rank": 128,
    "q_lora_rank": 256,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "attention_bias": False,
}
_QWEN3_NEXT = _QWEN3 | {
    "model_type": "qwen3_next",
    "linear_num_value_heads": 8,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "shared_expert_intermediate_size": 256,
    "mlp_only_layers": [],
    "moe_intermediate_size": 256,
    "full_attention_interval": 4,
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.5,
}

CASES = {
    "demo-chat": Case(None, 1024, 2),
    "demo-embedding": Case(None, 256, 1, type="embedding"),
    "llama": Case(_LLAMA, 1024, 4),
    "llama-f16": Case(_LLAMA, 1024, 4, dtype="float16"),
    "llama-1-row": Case(_LLAMA, 2048, 1),
    "llama-16-rows": Case(_LLAMA, 512, 16),
    "llama-much-kv": Case(_LLAMA | {"num_key_value_heads": 8}, 2048, 6),
    "llama-much-mlp": Case(
        _LLAMA | {"intermediate_size": 8192, "num_hidden_layers": 3}, 2048, 1
    ),
    "llama-4-bit": Case(_LLAMA, 512, 4, quantized=4),
    "llama-8-bit": Case(_LLAMA | {"num_hidden_layers": 12}, 512, 4, quantized=8),
    "llama-kv-8": Case(_LLAMA | {"num_key_value_heads": 8}, 1024, 4, bits=8),
    "llama-kv-4": Case(_LLAMA | {"num_key_value_heads": 8}, 1024, 4, bits=4),
    "qwen3": Case(_QWEN3 | {"num_hidden_layers": 16}, 1024, 3),
    "qwen2-big-vocabulary": Case(_QWEN2 | {"vocab_size": 151_936}, 512, 8),
    "gemma3-window": Case(_GEMMA3, 1024, 4),
    "gemma3-big-vocabulary": Case(
        _GEMMA3 | {"vocab_size": 262_144, "num_hidden_layers": 4, "hidden_size": 256}, 512, 4
    ),
    "qwen3-moe": Case(_MOE, 1024, 4),
    "qwen3-moe-4-bit": Case(_MOE, 512, 4, quantized=4),
    "gpt-oss": Case(_GPT_OSS, 1024, 4),
    "mamba2": Case(_MAMBA2, 512, 8),
    "deepseek-v3": Case(_DEEPSEEK, 1024, 4),
    "qwen3-next": Case(_QWEN3_NEXT, 512, 4),
}


def write_model(case: Case, folder: Path) -> ServedModel:
    """The model of a configuration on disk, with random weights."""
    if case.config is None:
        tables = demo_tables()
        (id,) = [key for key, t in tables["api"]["models"].items() if t["type"] == case.type]
        table: dict[str, Any] = {k: tables["api"]["models"][id][k] for k in ("path", "type")}
        return _resolve(table | {"context_length": case.context})
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    model_class, arguments = _get_classes(case.config)
    model = model_class(arguments.from_dict(case.config))
    model.set_dtype(getattr(mx, case.dtype))
    config = dict(case.config)
    if case.quantized:
        nn.quantize(model, group_size=64, bits=case.quantized)
        config["quantization"] = {"group_size": 64, "bits": case.quantized}
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")  # not used
    return _resolve({"path": str(folder), "type": "completion", "context_length": case.context})


def _resolve(table: dict[str, Any]) -> ServedModel:
    api = {"models": {"case": ModelConfig.model_validate(table)}}
    (model,) = resolve_models(NodeConfig.model_validate({"api": api}), print)
    return model
