"""The model of all servers that are compared: the demo model, whole or its first layers."""

import json
import re
import shutil
from pathlib import Path

from mlxnode.config.tables import ApiConfig, ModelConfig, NodeConfig
from mlxnode.models.demo import fetch_demo_model
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.resolve import resolve_models

# The model never writes this token. As the end-of-sequence token, it lets no answer end early.
_NEVER_WRITTEN = "<file_sep>"


def export(folder: Path, layers: int | None = None) -> Path:
    """Write the demo chat model as a folder that mlx-lm loads, in the CPU backend's float32.

    ``layers``: keep only the first layers. A forward pass of a small model is so short that
    the cost of the server shows. Imports mlx.
    """
    from mlx import core as mx
    from mlx.utils import tree_flatten

    from mlxnode.engine.loader import load_generation_model

    gguf = fetch_demo_model("smollm2-135m-instruct")
    shutil.copytree(model_folder(gguf), folder)
    served = ModelConfig(path=str(gguf), type="chat")
    config = NodeConfig(api=ApiConfig(models={"bench": served}))
    model = load_generation_model(*resolve_models(config, print))
    weights = dict(tree_flatten(model.parameters()))
    if layers is not None:
        weights = {name: w for name, w in weights.items() if _layer_of(name) < layers}
        _rewrite(folder / "config.json", num_hidden_layers=layers)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    eos_id = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == _NEVER_WRITTEN)
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            _rewrite(folder / name, eos_token_id=eos_id)
    _rewrite(folder / "tokenizer_config.json", eos_token=_NEVER_WRITTEN)
    return folder


def _layer_of(weight: str) -> int:
    """The number of the layer that a weight belongs to; -1 for a weight outside the layers."""
    found = re.match(r"model\.layers\.(\d+)\.", weight)
    return int(found[1]) if found else -1


def _rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
