"""A model of mlx-lm with the tensors of a GGUF file.

mlx-lm's modules have nearly the names of Hugging Face's models, and gguf-py maps those names to
the names in the file.
"""

import importlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from mlx import nn
from mlx.utils import tree_flatten

from mlxnode.engine import cpu
from mlxnode.engine.gguf.layouts import GROUP_SIZE, LAYOUTS
from mlxnode.engine.gguf.tensors import Arrays, read_arrays, shapes, type_of
from mlxnode.errors import ModelError
from mlxnode.models.gguf.architectures import ARCHITECTURES, Architecture
from mlxnode.models.gguf.config import ROPE_FACTORS, ROPE_FREQS
from mlxnode.models.gguf.folder import read_tensors

_SUFFIXES = (".weight", ".bias")
# The frequencies of short texts are not used: mlx-lm always computes with the long ones.
_IGNORED = ("rope_factors_short.weight",)


def open_gguf(folder: Path, file: Path | None) -> nn.Module:
    """As ``open_in_pieces``, at once."""
    pieces = open_in_pieces(folder, file)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def open_in_pieces(folder: Path, file: Path | None) -> Generator[None, None, nn.Module]:
    """The model of a GGUF file; ``folder`` was made of it (``models/gguf/folder.py``).

    Yields after each tensor. Without ``file``, the weights are not read: the model has arrays
    of their shapes and types that must not be evaluated.

    Raises:
        ModelError: a tensor is missing, unexpected or of an unsupported type.
        ValueError: a tensor has another shape than the configuration says.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name, architecture = next(
        item for item in ARCHITECTURES.items() if item[1].model_type == config["model_type"]
    )
    tensors = read_tensors(folder)
    dtype = type_of(tensors, overflows_half=architecture.overflows_half)
    if cpu.is_used():  # it computes in float32, so nothing needs to be rounded
        dtype = mx.float32
    arrays = shapes(tensors, dtype) if file is None else read_arrays(file, tensors, dtype)
    module = importlib.import_module(f"mlx_lm.models.{architecture.model_type}")
    model = module.Model(module.ModelArgs.from_dict(config))
    yield from _load(
        model,
        arrays,
        _names(model, name, architecture, config["num_hidden_layers"]),
        _changes(architecture, config),
        dtype,
    )
    model.eval()
    return model


def _names(
    model: nn.Module, name: str, architecture: Architecture, num_layers: int
) -> dict[str, str]:
    """Names of tensors in the file -> names of the parameters of ``model``."""
    (kind,) = (kind for kind, text in MODEL_ARCH_NAMES.items() if text == name)
    mapped = get_tensor_name_map(kind, num_layers)
    names = {}
    for path, _ in tree_flatten(model.parameters()):
        usual = path
        for own, other in architecture.renamed.items():
            usual = usual.replace(own, other)
        found = mapped.get_name(usual, try_suffixes=_SUFFIXES)
        if found is None:
            raise ModelError(f"gguf-py has no name for {path} of architecture {name}")
        # A parameter of a layer itself has no suffix in mlx-lm, but in the file.
        names[found if found.endswith(_SUFFIXES) else f"{found}.weight"] = path
    return names


def _load(
    model: nn.Module,
    arrays: Arrays,
    names: Mapping[str, str],
    change: Callable[[str, mx.array], mx.array],
    dtype: mx.Dtype,
) -> Iterator[None]:
    weights: dict[str, mx.array] = {}
    quantized: dict[str, dict[str, Any]] = {}
    for tensor, (weight, *others) in arrays:
        yield
        if tensor.name in (ROPE_FREQS, ROPE_FACTORS):
            _set_frequencies(model, weight.astype(mx.float32), tensor.name)
            continue
        if tensor.name in _IGNORED:
            continue
        if tensor.name not in names:
            raise ModelError(f"unexpected tensor {tensor.name}")
        path = names[tensor.name]
        weight = change(tensor.name, weight)
        if not others:
            weights[path] = weight.astype(dtype)
            continue
        module = path.removesuffix(".weight")
        layout = LAYOUTS[tensor.kind]
        quantized[module] = {
            "group_size": GROUP_SIZE,
            "bits": layout.bits,
            "mode": layout.mode,
        }
        weights[path] = weight
        for part, array in zip(("scales", "biases"), others, strict=False):
            weights[f"{module}.{part}"] = change(tensor.name, array)
    sanitize = getattr(model, "sanitize", None)
    if sanitize is not None:
        weights = sanitize(weights)
    nn.quantize(
        model,
        class_predicate=lambda path, module: (
            hasattr(module, "to_quantized") and quantized.get(path, False)
        ),
    )
    model.load_weights(list(weights.items()))


def _changes(
    architecture: Architecture, config: dict[str, Any]
) -> Callable[[str, mx.array], mx.array]:
    """What undoes the changes that llama.cpp's converter makes to the arrays of a tensor."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}

    def change(name: str, array: mx.array) -> mx.array:
        part = name.split(".")[-2]
        if architecture.is_interleaved and part in heads:
            return _undo_interleaving(array, heads[part])
        if architecture.norm_shift and part.endswith("norm"):
            return array.astype(mx.float32) - architecture.norm_shift
        return array

    return change


def _undo_interleaving(array: mx.array, heads: int) -> mx.array:
    """Reorder the outputs of a q or k projection for mlx-lm's rotary embedding.

    GGUF stores the rotary pairs of a head as (2i, 2i+1), mlx-lm as (i, i+d/2).
    """
    pairs = array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _set_frequencies(model: nn.Module, factors: mx.array, name: str) -> None:
    """Multiply the wavelengths of the rotary embeddings, which have none scaled yet."""
    for module in model.modules():
        if "_freqs" not in module:
            continue
        usual = module["_freqs"]
        if factors.shape != usual.shape:
            raise ModelError(f"{name} has the shape {factors.shape}, not {usual.shape}")
        module["_freqs"] = usual * factors
        mx.eval(module["_freqs"])
