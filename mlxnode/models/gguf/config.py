"""The config.json that mlx-lm reads, from the metadata of a GGUF file."""

from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Metadata

ARCHITECTURES = ("llama",)


def config_of(metadata: Metadata, tensors: set[str]) -> dict[str, Any]:
    """The config.json that mlx-lm reads."""
    architecture = metadata["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"architecture {architecture!r} is not supported in GGUF form, only "
            f"{', '.join(ARCHITECTURES)}; use the model's MLX or safetensors folder"
        )

    def get(name: str, *default: Any) -> Any:
        key = f"{architecture}.{name}"
        return metadata.get(key, *default) if default else metadata[key]

    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    scaling = get("rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensors or get("rope.scale_linear", 1) != 1:
        raise ModelError(
            f"rope scaling ({scaling}) is not supported in GGUF form; use the model's MLX or "
            "safetensors folder"
        )
    if (rotated := get("rope.dimension_count", head_dim)) != head_dim:
        raise ModelError(f"rope over {rotated} of {head_dim} dimensions is not supported")
    return {
        "model_type": architecture,
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10000.0),
        "max_position_embeddings": get("context_length"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in tensors,
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
    }
