"""The config.json that mlx-lm reads, from the metadata of a GGUF file."""

import math
from collections.abc import Sequence
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.gguf.architectures import ARCHITECTURES, Architecture
from mlxnode.models.gguf.header import Metadata, Tensor

ROPE_FREQS = "rope_freqs.weight"  # what the frequencies of a Llama 3 are divided by
ROPE_FACTORS = "rope_factors_long.weight"  # the same of a Phi-3
_ADVICE = (
    "use the model's MLX or safetensors folder, or make one: "
    "mlx_lm.convert --hf-path ORGANIZATION/NAME -q"
)
_LIMIT = 1 << 24  # of integers such as sizes and counts


def architecture_of(metadata: Metadata) -> str:
    """The name of the architecture, which is in ``ARCHITECTURES``.

    Raises:
        ModelError: the file is not one of the supported architectures, or a part of a model.
    """
    name = metadata["general.architecture"]
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(
            f"architecture {name!r:.60} is not supported in GGUF form, only "
            f"{', '.join(ARCHITECTURES)}; {_ADVICE}"
        )
    if (parts := metadata.get("split.count", 1)) != 1:
        raise ModelError(
            f"this is a part of a model in {parts} files; join them: "
            "llama-gguf-split --merge FIRST-FILE JOINED-FILE"
        )
    return name


def config_of(metadata: Metadata, tensors: Sequence[Tensor]) -> dict[str, Any]:
    """The config.json that mlx-lm reads.

    Raises:
        ModelError: a value is missing or out of range, or mlx-lm's model cannot compute it.
    """
    name = architecture_of(metadata)
    architecture = ARCHITECTURES[name]
    values = _Values(metadata, name)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    if "token_embd.weight" not in shapes:
        raise ModelError("the tensor token_embd.weight is missing")
    hidden, heads = values.integer("embedding_length"), values.integer("attention.head_count")
    layers = values.integer("block_count")
    if layers > len(tensors):
        raise ModelError(
            f"{name}.block_count is {layers}, but there are {len(tensors)} tensors"
        )
    # Where all layers have experts, no layer has this size.
    optional = [0] if "expert_feed_forward_length" in architecture.numbers.values() else []
    head_dim = values.integer("attention.key_length", hidden // heads)
    config = {
        "model_type": architecture.model_type,
        "hidden_size": hidden,
        "intermediate_size": values.integer("feed_forward_length", *optional),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": values.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": values.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": values.integer("context_length"),
        "vocab_size": shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "mlp_bias": "blk.0.ffn_up.bias" in shapes,
        "query_pre_attn_scalar": (
            hidden / heads if layers == architecture.scaled_by_width else head_dim
        ),
        **architecture.fixed,
    }
    for key, source in architecture.numbers.items():
        config[key] = values.integer(source)
    for key, (source, default) in architecture.optional.items():
        config[key] = values.number(source, default)
    if config.get("attention_multiplier", 0) is None:
        config["attention_multiplier"] = head_dim**-0.5
    _check(values, architecture, config)
    config |= _rope(values, architecture, set(shapes), head_dim)
    if (end := metadata.get("tokenizer.ggml.eos_token_id")) is not None:
        config["eos_token_id"] = end
    return config


def _check(values: "_Values", architecture: Architecture, config: dict[str, Any]) -> None:
    """Refuse what mlx-lm's model would compute differently."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config["head_dim"]
    if not architecture.has_free_head_dim and head_dim * heads != hidden:
        raise ModelError(
            f"heads of {head_dim} are not supported, only of {hidden} / {heads}; {_ADVICE}"
        )
    if (value := values.integer("attention.value_length", head_dim)) != head_dim:
        raise ModelError(f"values of {value} beside keys of {head_dim} are not supported")
    if heads % config["num_key_value_heads"]:
        raise ModelError(f"{heads} heads are no multiple of {config['num_key_value_heads']}")
    if "num_experts_per_tok" not in config and (experts := values.integer("expert_count", 0)):
        raise ModelError(
            f"architecture {values.architecture!r} with {experts} experts is not supported in "
            f"GGUF form; {_ADVICE}"
        )


def _rope(
    values: "_Values", architecture: Architecture, tensors: set[str], head_dim: int
) -> dict[str, Any]:
    """The rotary embedding, as config.json describes it."""
    kind, scaling = _scaling(values, tensors)
    if kind != "none" and kind not in architecture.scalings:
        raise ModelError(
            f"rope scaling ({kind}) is not supported in GGUF form for "
            f"{values.architecture}; {_ADVICE}"
        )
    theta = values.number("rope.freq_base", 10000.0)
    rope: dict[str, Any] = {"rope_theta": theta}
    rotated = values.integer("rope.dimension_count", head_dim)
    if architecture.model_type == "phi3" and rotated < head_dim:
        rope["partial_rotary_factor"] = rotated / head_dim
    elif rotated != head_dim:
        raise ModelError(f"rope over {rotated} of {head_dim} dimensions is not supported")
    original = values.integer(
        "rope.scaling.original_context_length", values.integer("context_length")
    )
    if architecture.nests_rope:
        # Scales queries by the position; 0 does not.
        beta = values.number("attention.temperature_scale", 0.0)
        nested = {"rope_type": "default", "original_max_position_embeddings": original}
        return {
            "rope_parameters": rope | nested | scaling | {"llama_4_scaling_beta": beta},
        }
    if scaling:
        rope["rope_scaling"] = scaling
    if kind == "longrope":
        rope["original_max_position_embeddings"] = original
    return rope


def _scaling(values: "_Values", tensors: set[str]) -> tuple[str, dict[str, Any]]:
    """The kind of scaling of the rotary embedding, and config.json's description."""
    if ROPE_FREQS in tensors:
        # The engine sets the frequencies from the tensor; a factor of 1 is a placeholder.
        return "factors", {"rope_type": "llama3", "factor": 1.0}
    if ROPE_FACTORS in tensors:
        placeholder = {"short_factor": 1.0, "long_factor": 1.0}
        return "longrope", {"type": "longrope", **placeholder}
    kind = values.text("rope.scaling.type", "none")
    factor = values.number("rope.scaling.factor", values.number("rope.scale_linear", 1.0))
    if kind == "none" and factor != 1.0:
        kind = "linear"
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return "none", {}
    scaling = {"rope_type": kind, "type": kind, "factor": factor}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = values.integer(
            "rope.scaling.original_context_length"
        )
        for key, source in (
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
            ("mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
        ):
            if (value := values.number(source, None)) is not None:
                scaling[key] = value
    return kind, scaling


class _Values:
    """The metadata of one architecture, checked."""

    def __init__(self, metadata: Metadata, architecture: str):
        self._metadata = metadata
        self.architecture = architecture

    def integer(self, key: str, *default: int) -> int:
        value = self._get(key, *default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LIMIT:
            raise ModelError(
                f"{self.architecture}.{key} must be an integer up to {_LIMIT}, "
                f"got {value!r:.60}"
            )
        if not value and default != (0,):
            raise ModelError(f"{self.architecture}.{key} must be at least 1, got 0")
        return value

    def number(self, key: str, *default: float | None) -> Any:
        value = self._get(key, *default)
        if value is None:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{self.architecture}.{key} must be a number, got {value!r:.60}")
        if not math.isfinite(value) or value < 0:
            raise ModelError(f"{self.architecture}.{key} must be from 0, got {value}")
        return value

    def text(self, key: str, *default: str) -> str:
        value = self._get(key, *default)
        if not isinstance(value, str):
            raise ModelError(f"{self.architecture}.{key} must be a text, got {value!r:.60}")
        return value

    def _get(self, key: str, *default: Any) -> Any:
        name = f"{self.architecture}.{key}"
        return self._metadata.get(name, *default) if default else self._metadata[name]
