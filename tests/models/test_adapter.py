"""Adapters and quantization as they are configured: paths, files, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support import tiny

from mlxnode.config.tables import NodeConfig
from mlxnode.models import hub
from mlxnode.models.adapter import read_adapter_config
from mlxnode.models.resolve import list_models, resolve_each
from mlxnode.models.served import ServedModel

CONFIG = {
    "fine_tune_type": "lora",
    "num_layers": -1,
    "lora_parameters": {"rank": 8, "scale": 20, "dropout": 0.0},
    "learning_rate": 1e-5,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def adapter(tmp_path) -> Path:
    return write(tmp_path / "adapter")


def write(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    array = np.zeros((4, 4), np.float32)
    save_file({"model.layers.0.mlp.up_proj.lora_a": array}, folder / "adapters.safetensors")
    return folder


def configure(path: object, **keys: object) -> NodeConfig:
    table = {"path": str(path), "type": "chat", **keys}
    return NodeConfig.model_validate({"api": {"models": {"mine": table}}})


def resolve(path: object, folder: Path | None = None, **keys: object) -> ServedModel:
    (served,) = resolve_each(configure(path, **keys), print, folder=folder).models
    return served


def error_of(path: object, folder: Path | None = None, **keys: object) -> str:
    resolved = resolve_each(configure(path, **keys), print, folder=folder)
    assert not resolved.models
    reason = resolved.failed["mine"]
    assert "\n" not in reason and "Error:" not in reason
    return reason


def test_adapter_is_found_relative_to_the_file_of_the_configuration(model, adapter):
    assert resolve(model, adapter=str(adapter)).adapter == adapter
    assert resolve(model, adapter.parent, adapter="adapter").adapter == adapter
    assert resolve(model).adapter is None
    weights = (adapter / "adapters.safetensors").stat()
    assert resolve(model, adapter=str(adapter)).size_bytes == (
        resolve(model).size_bytes + weights.st_size
    )
    assert resolve(model, adapter=str(adapter)).created == int(weights.st_mtime)
    listed, served = list_models(configure(model, adapter=str(adapter)))[0]
    assert listed.on_disk == "yes" and served and served.adapter == adapter


def test_adapter_of_the_home_folder_is_found(model, adapter, monkeypatch):
    monkeypatch.setenv("HOME", str(adapter.parent))
    assert resolve(model, adapter="~/adapter").adapter == adapter


def test_adapter_from_the_hub_is_fetched(model, adapter, monkeypatch):
    monkeypatch.setattr(hub, "find_in_cache", lambda name: None)
    monkeypatch.setattr(hub, "fetch", lambda path, meter: {"org/adapter": adapter}[path])
    assert resolve(model, adapter="org/adapter").adapter == adapter
    listed, served = list_models(configure(model, adapter="org/adapter"))[0]
    assert listed.on_disk == "no" and served is None
    monkeypatch.setattr(hub, "find_in_cache", {"org/adapter": adapter}.__getitem__)
    assert list_models(configure(model, adapter="org/adapter"))[0][0].on_disk == "yes"


def test_adapter_that_is_missing_is_refused(model, adapter):
    reason = error_of(model, adapter.parent, adapter="missing")
    assert reason == f'adapter = "missing": there is no folder {adapter.parent / "missing"}'
    file = adapter / "adapters.safetensors"
    assert error_of(model, adapter=str(file)).endswith("is no folder")
    file.unlink()
    assert "adapter: there is no adapters.safetensors" in error_of(model, adapter=str(adapter))
    (adapter / "adapter_config.json").unlink()
    assert "adapter: there is no adapter_config.json" in error_of(model, adapter=str(adapter))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fine_tune_type": "prefix"}, "fine_tune_type: Input should be 'lora', 'dora' or"),
        ({"num_layers": "8"}, "num_layers: Input should be a valid integer"),
        ({"num_layers": None}, "num_layers is missing"),
        ({"lora_parameters": {"rank": 8}}, "lora_parameters.scale: Field required"),
        ({"lora_parameters": {"rank": 0, "scale": 1}}, "rank: Input should be greater than"),
        ({"lora_parameters": {"rank": 1 << 40, "scale": 1}}, "rank: Input should be less"),
        ({"lora_parameters": {"rank": 8, "scale": True}}, "scale: Input should be a valid n"),
        ({"lora_parameters": {"rank": 8, "scale": float("nan")}}, "scale: Input should be a f"),
        ({"lora_parameters": {"rank": 8, "scale": 1, "keys": "q_proj"}}, "keys: Input should"),
        ({"peft_type": "LORA"}, "has the format of PEFT"),
    ],
)
def test_adapter_with_wrong_settings_is_refused(model, tmp_path, changes, expected):
    adapter = write(tmp_path / "wrong", **changes)
    reason = error_of(model, adapter=str(adapter))
    assert reason.startswith("adapter: ") and expected in reason


@pytest.mark.parametrize("name", ["num_layers", "lora_parameters"])
def test_adapter_without_a_setting_is_refused(model, adapter, name):
    settings = {key: value for key, value in CONFIG.items() if key != name}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert f"{name} is missing" in error_of(model, adapter=str(adapter))


def test_adapter_that_replaces_weights_needs_no_settings_of_layers(adapter):
    for settings in ({}, {"num_layers": 1, "lora_parameters": None}):  # mlx-lm writes these
        settings = {"fine_tune_type": "full"} | settings
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        assert read_adapter_config(adapter).fine_tune_type == "full"


def test_adapter_with_damaged_files_is_refused(model, adapter):
    file = adapter / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "adapter: " in (reason := error_of(model, adapter=str(adapter)))
    assert "download it again" in reason
    (adapter / "adapter_config.json").write_text("[1]")
    assert "expected a JSON object" in error_of(model, adapter=str(adapter))
    (adapter / "adapter_config.json").unlink()
    os.mkfifo(adapter / "adapter_config.json")
    assert "neither a file nor a folder" in error_of(model, adapter=str(adapter))


# --- quantize -------------------------------------------------------------------------


def test_quantize_is_passed_on(model):
    assert resolve(model, quantize=4).quantize == 4
    assert resolve(model).quantize is None


def test_quantize_of_quantized_weights_is_refused(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 64, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    reason = error_of(folder, quantize=4)
    assert reason.startswith("quantize = 4: the weights are quantized already")


def test_quantize_of_an_encoder_is_refused(tmp_path):
    folder = tiny.make_embedding_model(tmp_path / "bert")
    reason = error_of(folder, type="embedding", quantize=8)
    assert reason == "quantize = 8: a bert encoder cannot be quantized; remove quantize"


def test_quantize_of_a_gguf_file_is_refused(demo_chat):
    reason = error_of("demo/smollm2-135m-instruct", quantize=8)
    assert reason.startswith("quantize = 8: a GGUF file keeps the bits that it has")
