"""The models of all servers that are compared, as folders that mlx-lm loads.

The demo model, whole or its first layers, and models with random weights and its tokenizer.
"""

import json
import re
import shutil
from pathlib import Path

from random_models import CONFIGS, random_model
from workloads.bench import Stage

from mlxnode.config.tables import ApiConfig, ModelConfig, NodeConfig
from mlxnode.models.demo import fetch_demo_model
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.resolve import resolve_models

_CHAT = "smollm2-135m-instruct"

# The model never writes this token. As the end-of-sequence token, it lets no answer end early.
_NEVER_WRITTEN = "<file_sep>"


def model_of(stage: Stage, scratch: Path, layers: int) -> Path:
    """The folder of the chat model of a stage, which has ``layers`` if it is a cut one.

    What is not in the cache of mlxnode is written into the folder ``scratch``. Imports mlx.
    """
    if stage in CONFIGS:
        return random_model(stage, _write_tokenizer)
    name = "whole" if stage == "whole" else "cut"
    if (scratch / name).exists():
        return scratch / name
    return export(scratch / name, None if stage == "whole" else layers)


def export(folder: Path, layers: int | None = None) -> Path:
    """Write the demo chat model as a folder that mlx-lm loads, in the CPU backend's float32.

    ``layers``: keep only the first layers. A forward pass of a small model is so short that
    the cost of the server shows. Imports mlx.
    """
    from mlx import core as mx
    from mlx.utils import tree_flatten

    from mlxnode.engine.loader import load_generation_model

    folder.mkdir(parents=True)
    eos_id = _write_tokenizer(folder)
    gguf = fetch_demo_model(_CHAT)
    served = ModelConfig(path=str(gguf), type="chat")
    config = NodeConfig(api=ApiConfig(models={"bench": served}))
    model = load_generation_model(*resolve_models(config, print))
    weights = dict(tree_flatten(model.parameters()))
    shutil.copy(model_folder(gguf) / "config.json", folder)
    if layers is not None:
        weights = {name: w for name, w in weights.items() if _layer_of(name) < layers}
        _rewrite(folder / "config.json", num_hidden_layers=layers)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    _rewrite(folder / "config.json", eos_token_id=eos_id)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Write the demo model's tokenizer without its end of sequence; give the id that ends."""
    source = model_folder(fetch_demo_model(_CHAT))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    eos_id = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == _NEVER_WRITTEN)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos_id}))
    _rewrite(folder / "tokenizer_config.json", eos_token=_NEVER_WRITTEN)
    return eos_id


def _layer_of(weight: str) -> int:
    """The number of the layer that a weight belongs to; -1 for a weight outside the layers."""
    found = re.match(r"model\.layers\.(\d+)\.", weight)
    return int(found[1]) if found else -1


def _rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
