"""Tiny models with random weights, one for each text architecture that mlx-lm has.

``architectures.json`` holds their configurations.
"""

import functools
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, quantize_model
from support.tiny import CHAT_TEMPLATE, make_tokenizer

from mlxnode.engine import cpu


@functools.cache
def configs() -> dict[str, dict[str, Any]]:
    """The configurations by name; most names are values of ``model_type``."""
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def build(name: str, *, seed: int = 0) -> nn.Module:
    """The model of that name, as the engine would run it, with other weights for each seed."""
    model = _build(configs()[name], seed)
    cpu.install(model)
    return model


def build_plain(name: str, *, seed: int = 0, **changes: Any) -> nn.Module:
    """The model of that name as mlx-lm builds it; ``changes`` replace configuration values."""
    return _build({**configs()[name], **changes}, seed)


def write_folder(
    name: str,
    folder: Path,
    *,
    template: str = CHAT_TEMPLATE,
    quantized: bool = False,
    **changes: Any,
) -> Path:
    """A folder with that model and a byte tokenizer, as from the hub.

    ``changes`` replace values of its configuration; ``quantized`` weights have four bits.
    """
    make_tokenizer(folder, template)
    config = {**configs()[name], **changes}
    model = _build(config, 0)
    if quantized:
        model, config = quantize_model(model, config, group_size=32, bits=4)
    (folder / "config.json").write_text(json.dumps(config))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def _build(config: dict[str, Any], seed: int, *, evaluate: bool = True) -> nn.Module:
    mx.random.seed(seed)
    model_class, arguments_class = _get_classes(config)
    model = model_class(arguments_class.from_dict(config))
    if evaluate:
        mx.eval(model.parameters())
    return model
