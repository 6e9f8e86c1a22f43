"""Adapters with random weights, made by mlx-lm's own code for training."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model


def write_adapter(
    base: Path,
    folder: Path,
    *,
    kind: str = "lora",
    seed: int = 1,
    num_layers: int = 2,
    keys: list[str] | None = None,
    dtype: mx.Dtype = mx.float32,
) -> Path:
    """An adapter for the model in ``base``, as ``mlx_lm.lora`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, Any] = {"rank": 4, "scale": 10.0, "dropout": 0.1}
    if keys is not None:
        parameters["keys"] = keys
    settings = {
        "fine_tune_type": kind,
        "num_layers": num_layers,
        "lora_parameters": None if kind == "full" else parameters,
        "learning_rate": 1e-5,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    model, _ = load_model(base)
    if kind != "full":
        linear_to_lora_layers(model, num_layers, parameters, use_dora=kind == "dora")
    mx.random.seed(seed)
    arrays = {
        name: changed.astype(dtype)
        for name, array in tree_flatten(model.parameters())
        if (changed := _changed(name, array, kind)) is not None
    }
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    return folder


def load_as_mlx_lm(base: Path, adapter: Path) -> nn.Module:
    """The model with its adapter as mlx-lm loads it, computed in float32 as on the CPU."""
    model = load_adapters(load_model(base)[0], str(adapter))
    model.eval()
    model.set_dtype(mx.float32)
    return model


def _changed(name: str, array: mx.array, kind: str) -> mx.array | None:
    """What training might have made of an array; None: it is no part of the adapter."""
    leaf = name.rpartition(".")[2]
    if kind == "full":
        return array + 0.5 * mx.random.normal(array.shape) if "layers.1." in name else None
    if leaf in ("lora_a", "lora_b"):
        return 0.2 * mx.random.normal(array.shape)
    if leaf == "m":
        return array * (1 + 0.3 * mx.random.uniform(shape=array.shape))
    return None
