"""Loads models that generate text: MLX and Hugging Face folders, and GGUF files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
from mlx import nn
from mlx_lm.models import llama
from mlx_lm.utils import load_model

from mlxnode.engine import cpu
from mlxnode.engine.weights import read_arrays
from mlxnode.errors import ModelError
from mlxnode.models.served import ServedModel

# Patterns of GGUF's names for the tensors of a llama, and mlx-lm's names.
_LLAMA_NAMES = [
    (r"^token_embd\.", "model.embed_tokens."),
    (r"^output_norm\.", "model.norm."),
    (r"^output\.", "lm_head."),
    (r"^blk\.(\d+)\.attn_norm\.", r"model.layers.\1.input_layernorm."),
    (r"^blk\.(\d+)\.attn_output\.", r"model.layers.\1.self_attn.o_proj."),
    (r"^blk\.(\d+)\.attn_([qkv])\.", r"model.layers.\1.self_attn.\2_proj."),
    (r"^blk\.(\d+)\.ffn_norm\.", r"model.layers.\1.post_attention_layernorm."),
    (r"^blk\.(\d+)\.ffn_(gate|up|down)\.", r"model.layers.\1.mlp.\2_proj."),
]
_GGUF_GROUP_SIZE = 32  # of Q4_0, Q4_1 and Q8_0, which MLX reads without loss


def load_generation_model(served: ServedModel) -> nn.Module:
    """Load the model of ``served`` into memory.

    Weights keep the type and quantization of the file, except on the CPU backend.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    model = open_generation_model(served, lambda: read_arrays(served.weights))
    mx.eval(model.parameters())
    return model


def open_generation_model(
    served: ServedModel, read_gguf: Callable[[], dict[str, mx.array]]
) -> nn.Module:
    """The model of ``served``, whose weights are not evaluated.

    ``read_gguf`` reads the arrays of its GGUF file, if it is one, or only their shapes.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    try:
        if served.weights.suffix == ".gguf":
            model = _open_gguf(read_gguf(), served.folder)
        else:
            model, _ = load_model(served.weights, lazy=True)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load {served.weights}: {error}") from error
    except SystemExit as error:  # a module of mlx-lm that misses a package
        raise ModelError(
            f"mlx-lm needs a package for {served.architecture} that is not installed"
        ) from error
    cpu.install(model)
    return model


def _open_gguf(arrays: dict[str, mx.array], folder: Path) -> nn.Module:
    """A llama with the arrays of a GGUF file; ``folder`` contains its config.json."""
    config = json.loads((folder / "config.json").read_text())
    arguments = llama.ModelArgs.from_dict(config)
    model = llama.Model(arguments)
    heads = {"q": arguments.num_attention_heads, "k": arguments.num_key_value_heads}
    weights = {}
    for name, array in arrays.items():
        if found := re.match(r"^blk\.\d+\.attn_([qk])\.", name):
            array = _undo_interleaving(array, heads[found[1]])
        weights[_mlx_name(name)] = array

    def quantization(path: str, module: nn.Module) -> bool | dict[str, int]:
        if f"{path}.scales" not in weights or not isinstance(module, nn.Linear | nn.Embedding):
            return False
        # A word of 32 bits holds several weights.
        num_words, width = weights[f"{path}.weight"].shape[-1], module.weight.shape[-1]
        return {"group_size": _GGUF_GROUP_SIZE, "bits": num_words * 32 // width}

    nn.quantize(model, class_predicate=quantization)
    model.load_weights(list(weights.items()))
    return model


def _mlx_name(name: str) -> str:
    for pattern, replacement in _LLAMA_NAMES:
        mapped, count = re.subn(pattern, replacement, name)
        if count:
            return mapped
    raise ModelError(f"unexpected tensor {name}")


def _undo_interleaving(array: mx.array, heads: int) -> mx.array:
    """Reorder the outputs of a q or k projection for mlx-lm's rotary embedding.

    GGUF stores the rotary pairs of a head as (2i, 2i+1), mlx-lm as (i, i+d/2).
    """
    pairs = array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)
