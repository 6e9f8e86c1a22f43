"""GGUF files of tiny models with random weights, as llama.cpp's converter writes them.

Source: https://github.com/ggml-org/llama.cpp, conversion/. What mlxnode reads in the files is
written here a second time, from that source and not from mlxnode.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from support.architectures import write_folder

HEAD_DIM = 32
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FACTORS = [1.0 + i / 3 for i in range(HEAD_DIM // 2)]


@dataclass(frozen=True)
class Case:
    """A tiny model: its name in ``architectures.json``, what differs, its GGUF architecture."""

    architecture: str
    name: str
    changes: dict[str, Any] = field(default_factory=dict)


CASES = {
    "llama": Case("llama", "llama"),
    "llama-untied": Case("llama", "llama", {"tie_word_embeddings": False}),
    "llama-factors": Case("llama", "llama", {"rope_scaling": LLAMA3}),
    "llama-yarn": Case("llama", "llama", {"rope_scaling": YARN}),
    "llama-linear": Case("llama", "llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "mistral3": Case(
        "mistral3",
        "ministral3",
        {
            "layer_types": None,
            "tie_word_embeddings": False,
            "rope_parameters": YARN
            | {
                "rope_theta": 1e4,
                "beta_fast": 24.0,
                "beta_slow": 2.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.3,
            },
        },
    ),
    "mistral3-plain": Case(
        "mistral3",
        "ministral3",
        {
            "layer_types": None,
            "rope_parameters": {
                "rope_theta": 1e6,
                "rope_type": "default",
                "llama_4_scaling_beta": 0.0,
                "original_max_position_embeddings": 2048,
            },
        },
    ),
    "qwen2": Case("qwen2", "qwen2"),
    "qwen3": Case("qwen3", "qwen3"),
    "qwen3-yarn": Case("qwen3", "qwen3", {"rope_scaling": YARN, "head_dim": 64}),
    "qwen3moe": Case("qwen3moe", "qwen3_moe", {"moe_intermediate_size": 64}),
    "gemma2": Case(
        "gemma2",
        "gemma2",
        {"query_pre_attn_scalar": HEAD_DIM, "max_position_embeddings": 2048},
    ),
    "gemma3": Case(
        "gemma3",
        "gemma3_text",
        {"query_pre_attn_scalar": HEAD_DIM, "sliding_window_pattern": 6},
    ),
    "gemma3-linear": Case(
        "gemma3",
        "gemma3_text",
        {
            "query_pre_attn_scalar": HEAD_DIM,
            "sliding_window_pattern": 6,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi3": Case("phi3", "phi3"),
    "phi3-partial": Case("phi3", "phi3", {"partial_rotary_factor": 0.5}),
    "phi3-longrope": Case(
        "phi3",
        "phi3",
        {
            "original_max_position_embeddings": 64,
            "rope_scaling": {
                "type": "longrope",
                "long_factor": FACTORS,
                "short_factor": [1.0] * len(FACTORS),
            },
        },
    ),
    "smollm3": Case(
        "smollm3",
        "smollm3",
        {"num_hidden_layers": 5, "no_rope_layers": None, "no_rope_layer_interval": 4},
    ),
    "gpt-oss": Case("gpt-oss", "gpt_oss", {"max_position_embeddings": 2048}),
    "gpt-oss-yarn": Case(
        "gpt-oss", "gpt_oss", {"rope_scaling": YARN, "max_position_embeddings": 2048}
    ),
    "granite": Case(
        "granite",
        "granite",
        {
            "attention_multiplier": 0.2,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 4.0,
        },
    ),
    "olmo2": Case("olmo2", "olmo2", {"max_position_embeddings": 2048}),
}


def make_model(case: Case, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model and its configuration; norms and biases are random too."""
    write_folder(case.name, folder, **case.changes)
    model, config = load_model(folder)
    mx.random.seed(1)
    changed = [
        (path, array + 0.3 * mx.random.normal(array.shape))
        for path, array in tree_flatten(model.parameters())
        if array.ndim == 1 or path.endswith("bias")
    ]
    model.load_weights(changed, strict=False)
    return model, config


def write_model(
    file: Path,
    case: Case,
    model: nn.Module,
    config: dict[str, Any],
    tokenizer: Path,
    kind_of: Callable[[str, np.ndarray], str] = lambda name, array: "F32",
) -> Path:
    """The model as a GGUF file with the byte tokenizer of the folder ``tokenizer``.

    ``kind_of`` chooses the type of each matrix; what has one dimension is F32.
    """
    writer = gguf.GGUFWriter(file, case.architecture)
    _write_numbers(writer, case.architecture, config)
    _write_scaling(writer, config)
    _write_tokenizer(writer, tokenizer, config["vocab_size"])
    for name, array in tensors_of(case, model, config).items():
        kind = gguf.GGMLQuantizationType[kind_of(name, array) if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tensors_of(case: Case, model: nn.Module, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of the file, in float32, by name."""
    (kind,) = (k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == case.architecture)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    tensors = {}
    for path, parameter in tree_flatten(model.parameters()):
        array = np.array(parameter.astype(mx.float32))
        usual = path.replace("switch_mlp", "experts")
        usual = f"{usual}.weight" if usual.endswith("sinks") else usual
        name = names.get_name(usual, try_suffixes=(".weight", ".bias"))
        assert name, path
        module = path.split(".")[-2]
        if case.architecture in ("llama", "mistral3", "smollm3", "granite") and module in heads:
            array = _interleave(array, heads[module])
        if case.architecture.startswith("gemma") and path.endswith("norm.weight"):
            array = array + 1
        tensors[name] = array
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = _llama3_factors(config["rope_theta"], scaling)
    if scaling.get("type") == "longrope":
        tensors["rope_factors_long.weight"] = np.array(scaling["long_factor"], np.float32)
        tensors["rope_factors_short.weight"] = np.array(scaling["short_factor"], np.float32)
    return tensors


def _interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows from halves (i, i + d/2) to pairs (2i, 2i + 1)."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _llama3_factors(theta: float, scaling: dict[str, Any]) -> np.ndarray:
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    factors = []
    for i in range(0, HEAD_DIM, 2):
        wavelength = 2 * math.pi * theta ** (i / HEAD_DIM)
        smooth = (original / wavelength - low) / (high - low)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def _write_numbers(writer: gguf.GGUFWriter, architecture: str, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture in ("llama", "mistral3", "phi3"):
        writer.add_rope_dimension_count(
            int(head_dim * config.get("partial_rotary_factor", 1.0))
        )
    if architecture in ("gemma3", "gpt-oss"):
        writer.add_sliding_window(config["sliding_window"])
    if architecture == "gemma2":
        writer.add_sliding_window(4096)
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    if architecture == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if experts := config.get("num_experts") or config.get("num_local_experts"):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(
            config.get("moe_intermediate_size") or config["intermediate_size"]
        )


def _write_scaling(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "beta_fast" in rope:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
            writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
    if kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
    if rope.get("llama_4_scaling_beta"):
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    padding = [f"<unused{i}>" for i in range(size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + padding)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3) + [5] * len(padding))
    writer.add_token_merges([])
    writer.add_eos_token_id(tokens.index(settings["eos_token"]))
    writer.add_chat_template(settings["chat_template"])
