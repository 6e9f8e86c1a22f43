"""LoRA and DoRA adapters of mlx-lm on the modules of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxnode.engine import cpu
from mlxnode.engine.loader.dora import fix_dora
from mlxnode.engine.weights import read_arrays
from mlxnode.errors import ModelError
from mlxnode.models.adapter import ADAPTER_FILE, AdapterConfig, read_adapter_config

_LEAVES = ("lora_a", "lora_b", "m")  # what an adapted layer has beside the layer itself


def apply_adapter(model: nn.Module, folder: Path, quantized: frozenset[str]) -> None:
    """Put the adapter in ``folder`` on ``model``, in place. No array is evaluated.

    The arrays of the model stay, below those of the adapter. ``quantized`` has the paths of the
    layers whose weights are quantized in the files, if not in memory.

    Raises:
        ModelError: a file is broken, or was made for another model.
    """
    config = read_adapter_config(folder)
    arrays = adapter_arrays(folder)
    if config.fine_tune_type == "full":
        _check_names(folder, arrays, dict(_parameters(model)), quantized)
    else:
        _add_layers(model, folder, config, quantized)
        layers = _adapted_layers(model)
        expected = {name: array for path in layers for name, array in _own(path, layers[path])}
        _check_names(folder, arrays, expected, frozenset())
        _remove_unused(model, folder, layers, arrays)
    model.load_weights(list(arrays.items()), strict=False)
    model.update_modules(tree_unflatten(fix_dora(model)))
    model.eval()  # without dropout


def adapter_arrays(folder: Path) -> dict[str, mx.array]:
    """The arrays of the adapter in ``folder``, as they are computed with; not evaluated.

    Raises:
        ModelError: the file cannot be read, or holds no arrays of numbers.
    """
    file = folder / ADAPTER_FILE
    try:
        arrays = read_arrays(file)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"adapter: {file} cannot be read: {error}") from error
    if not arrays:
        raise ModelError(f"adapter: {file} has no tensors")
    for name, array in arrays.items():
        if not mx.issubdtype(array.dtype, mx.floating):
            raise ModelError(f"adapter: {file}: {name:.80} has the type {array.dtype}")
    if cpu.is_used():  # as the weights below
        return {name: array.astype(mx.float32) for name, array in arrays.items()}
    return arrays


def _add_layers(
    model: nn.Module, folder: Path, config: AdapterConfig, quantized: frozenset[str]
) -> None:
    is_dora, parameters = config.fine_tune_type == "dora", config.lora_parameters
    assert config.num_layers is not None and parameters is not None  # as it is no full one
    try:
        linear_to_lora_layers(
            model, config.num_layers, parameters.model_dump(exclude_none=True), is_dora
        )
    except Exception as error:  # of any type: models and layers of all kinds
        raise ModelError(f"adapter: {folder} cannot be put on this model: {error}") from error
    if not (layers := _adapted_layers(model)):
        raise ModelError(f"adapter: the base has none of the layers that {folder} names")
    for path, layer in layers.items():
        # mlx-lm would take the norms of the packed integers.
        if is_dora and "embedding" in layer and path in quantized:
            raise ModelError(f"adapter: {folder}: DoRA needs a {path} that is not quantized")


def _adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {path: layer for path, layer in model.named_modules() if "lora_a" in layer}


def _own(path: str, layer: nn.Module) -> list[tuple[str, Any]]:
    """The arrays of an adapted layer beside those of the layer itself, with their names."""
    leaves = {name: layer[name] for name in _LEAVES if name in layer}
    return [(f"{path}.{name}", array) for name, array in tree_flatten(leaves)]


def _parameters(model: nn.Module) -> list[tuple[str, Any]]:
    return [(str(name), array) for name, array in tree_flatten(model.parameters())]


def _check_names(
    folder: Path,
    arrays: Mapping[str, mx.array],
    expected: Mapping[str, Any],
    quantized: frozenset[str],
) -> None:
    """Raises ModelError unless each array has a place of its shape."""
    file = folder / ADAPTER_FILE
    for name, array in sorted(arrays.items()):
        path = name.rpartition(".")[0]
        if path in quantized:
            raise ModelError(
                f"adapter: {file} replaces {name}, but {path} of the base is quantized; "
                "a full fine-tune needs a base that is not"
            )
        if name not in expected:
            raise ModelError(
                f"adapter: {file} has {name:.120}, and the base has no place for it: "
                "it was made for another model or with other settings"
            )
        if array.shape != expected[name].shape:
            raise ModelError(
                f"adapter: {file}: {name} has the shape {array.shape}, not "
                f"{expected[name].shape}: it was made for another model"
            )


def _remove_unused(
    model: nn.Module, folder: Path, layers: Mapping[str, nn.Module], arrays: Mapping[str, Any]
) -> None:
    """Put the layers back to which the file adds nothing: older versions adapted fewer.

    Raises:
        ModelError: the file has a part of a layer only.
    """
    unused = []
    for path, layer in layers.items():
        missing = [name for name, _ in _own(path, layer) if name not in arrays]
        if not missing:
            continue
        if len(missing) < len(_own(path, layer)):
            raise ModelError(f"adapter: {folder / ADAPTER_FILE} lacks {missing[0]}")
        unused.append((path, layer["linear"] if "linear" in layer else layer["embedding"]))
    model.update_modules(tree_unflatten(unused))
