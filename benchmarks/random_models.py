"""Models with random weights and the demo model's vocabulary, for caches that it has not.

A small hybrid has layers of gated delta net, whose cache is a state, and every fourth layer has
attention. A small model with windows has three layers that see 512 positions to each that sees
all. Both are written once, as folders in the cache of mlxnode.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxnode.models.cache_folder import build_once, cache_folder

_FORMAT = 1  # changes with the contents of the folders

# The scores of one position have this standard deviation. The nucleus then has about as many
# tokens as that of a trained model; scores near each other would make sampling slow instead.
_SCORE_DEVIATION = 3

_SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 49_152,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "hybrid": _SIZES
    | {
        "model_type": "qwen3_5",
        "intermediate_size": 1024,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
    },
    "windows": _SIZES
    | {
        "model_type": "gemma3_text",
        "intermediate_size": 1536,
        "query_pre_attn_scalar": 64,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 512,
        "sliding_window_pattern": 4,
    },
}


def random_model(name: str, write_tokenizer: Callable[[Path], int]) -> Path:
    """The folder of a model of ``CONFIGS``, written if it does not exist yet. Imports mlx.

    ``write_tokenizer`` writes the files of the tokenizer into a folder, and gives the id of the
    end-of-sequence token. The model never writes this token.
    """
    identity = [_FORMAT, importlib.metadata.version("mlx-lm"), CONFIGS[name]]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    def write(folder: Path) -> None:
        eos_id = write_tokenizer(folder)
        config = CONFIGS[name] | {"eos_token_id": eos_id}
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        _write_weights(config, folder / "model.safetensors")

    return build_once(cache_folder() / "bench" / f"{name}-{key}", write)


def _write_weights(config: dict[str, Any], file: Path) -> None:
    from mlx import core as mx
    from mlx.utils import tree_flatten

    weights = dict(tree_flatten(build(config).parameters()))
    (head,) = (name for name in weights if name.endswith("lm_head.weight"))
    scores = _SCORE_DEVIATION * mx.random.normal(weights[head].shape)
    # A score of zero for the end-of-sequence token is far below those of the likely tokens.
    scores[config["eos_token_id"]] = 0
    weights[head] = scores / config["hidden_size"] ** 0.5
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})


def build(config: dict[str, Any]) -> Any:
    """The model of a configuration; its random weights are not evaluated."""
    from mlx import core as mx
    from mlx_lm.utils import _get_classes

    mx.random.seed(0)
    model_class, arguments_class = _get_classes(config)
    return model_class(arguments_class.from_dict(config))
