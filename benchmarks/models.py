"""The model that servers are compared on: the demo model, whole or its first layers."""

import json
import shutil
from pathlib import Path

from mlxnode.config.tables import ModelConfig, NodeConfig
from mlxnode.models.demo import fetch_demo_model
from mlxnode.models.gguf import model_folder
from mlxnode.models.resolve import resolve_models

# No answer ends early: the end-of-sequence token is one that the model never writes.
_NEVER = "<file_sep>"


def export(folder: Path, layers: int | None = None) -> Path:
    """Write the demo chat model as a folder that mlx-lm loads, in the CPU backend's float32.

    ``layers`` keeps the first of them: a model that takes so little time itself that a
    server's own cost shows. Imports mlx.
    """
    from mlx import core as mx
    from mlx.utils import tree_flatten

    from mlxnode.engine.loader import load_generation_model

    gguf = fetch_demo_model("smollm2-135m-instruct")
    shutil.copytree(model_folder(gguf), folder)
    config = NodeConfig(api={"models": {"bench": ModelConfig(path=str(gguf), type="chat")}})
    model = load_generation_model(*resolve_models(config, print))
    if layers is not None:
        model.model.layers = model.model.layers[:layers]
        rewrite(folder / "config.json", num_hidden_layers=layers)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    never = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == _NEVER)
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            rewrite(folder / name, eos_token_id=never)
    rewrite(folder / "tokenizer_config.json", eos_token=_NEVER)
    return folder


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
