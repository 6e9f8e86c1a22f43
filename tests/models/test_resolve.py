"""From a configured path to a described model on disk, or to a helpful error message."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny

from mlxnode.config.demo import demo_tables
from mlxnode.config.tables import THINKING_BUDGET_MESSAGE, ApiConfig, ModelConfig, NodeConfig
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models.resolve import list_models, resolve_each, resolve_models
from mlxnode.models.served import ServedModel


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))


def configure(path: object, type: str = "chat", **keys: object) -> NodeConfig:
    table = {"path": str(path), "type": type, **keys}
    return NodeConfig.model_validate({"api": {"models": {"mine": table}}})


def resolve(
    path: object, type: str = "chat", folder: Path | None = None, **keys
) -> ServedModel:
    (served,) = resolve_models(configure(path, type, **keys), print, folder=folder)
    return served


def error_of(path: object, type: str = "chat", kind: type = ModelError, **keys) -> str:
    with pytest.raises(kind) as caught:
        resolve(path, type, **keys)
    assert str(caught.value).startswith(f'api.models.mine (path = "{path}"): ')
    return str(caught.value)


def test_resolve_describes_a_folder(model):
    served = resolve(
        model, context_length=100, default_temperature=0.5, allow_control_tokens=True
    )
    assert served.folder == served.weights == model
    assert (served.architecture, served.context_length) == ("llama", 100)
    assert served.default_temperature == 0.5
    assert served.allow_control_tokens is True
    assert served.size_bytes == (model / "model.safetensors").stat().st_size
    assert served.created == int((model / "model.safetensors").stat().st_mtime)
    assert resolve(model).context_length == 512


def test_resolve_passes_the_limit_of_the_reasoning_on(model):
    served = resolve(model, thinking_budget=9, thinking_budget_message="So.")
    assert (served.thinking_budget, served.thinking_budget_message) == (9, "So.")
    assert resolve(model).thinking_budget is None
    assert resolve(model).thinking_budget_message == THINKING_BUDGET_MESSAGE


def test_resolve_describes_the_demo_models(demo_chat, demo_embedding):
    chat, embedding = resolve_models(NodeConfig.model_validate(demo_tables()), print)
    assert chat.weights == demo_chat
    assert (chat.type, chat.architecture, chat.context_length) == ("chat", "llama", 8192)
    assert embedding.folder == demo_embedding
    assert (embedding.type, embedding.dimensions) == ("embedding", 384)


def test_resolve_takes_paths_relative_to_the_configuration(model, monkeypatch):
    assert resolve(model.name, folder=model.parent).folder == model
    monkeypatch.setenv("HOME", str(model.parent))
    assert resolve(f"~/{model.name}").folder == model


def test_resolve_needs_a_model():
    with pytest.raises(ConfigError, match="no model is configured"):
        resolve_models(NodeConfig(), print)


def test_resolve_missing_path_says_what_was_expected():
    assert "no such folder or .gguf file" in error_of("/no/such/model")
    for path in ("./org/name", "./name", "my models/name", "models/a--b", "models/no.gguf"):
        assert "no such folder or .gguf file" in error_of(path)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "there is no config.json in"),
        ("model.safetensors", "there are no *.safetensors files in"),
        ("tokenizer.json", "there is no tokenizer in"),
    ],
)
def test_resolve_names_the_file_that_a_folder_lacks(model, tmp_path, missing, message):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / missing).unlink()
    assert message in error_of(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_type": 5}'])
def test_resolve_refuses_a_broken_config(model, tmp_path, text):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "config.json").write_text(text)
    assert "config.json" in error_of(folder)


def test_resolve_refuses_a_file_that_is_no_model(tmp_path):
    (tmp_path / "model.bin").touch()
    assert "expected a folder or a .gguf file" in error_of(tmp_path / "model.bin")


def test_resolve_refuses_an_encoder_as_a_chat_model(demo_embedding):
    assert 'set type = "embedding"' in error_of(demo_embedding)


def edit(file: Path, **changes: object) -> None:
    """Change keys of a JSON file; None takes one away."""
    content = json.loads(file.read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))


@pytest.mark.parametrize("type", ["chat", "completion", "embedding"])
def test_resolve_refuses_an_architecture_that_mlx_lm_lacks(demo_embedding, tmp_path, type):
    folder = tmp_path / "model"
    shutil.copytree(demo_embedding, folder)
    edit(folder / "config.json", model_type="no_such_net")
    assert "model_type 'no_such_net' is none that mlx-lm knows" in error_of(folder, type)


def test_resolve_knows_the_architectures_that_mlx_lm_maps_to_others(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    edit(folder / "config.json", model_type="mistral")
    assert resolve(folder).architecture == "mistral"


def test_resolve_needs_a_chat_template_for_chat(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    edit(folder / "tokenizer_config.json", chat_template=None)
    assert 'set type = "completion"' in error_of(folder)
    assert resolve(folder, "completion").type == "completion"
    (folder / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE)
    assert resolve(folder).type == "chat"


def test_resolve_refuses_more_than_the_model_can_do(model, demo_embedding):
    message = error_of(model, kind=ConfigError, context_length=513)
    assert "context_length = 513: the model has 512" in message
    message = error_of(demo_embedding, "embedding", ConfigError, dimensions=385)
    assert "dimensions = 385: the model has 384" in message
    assert resolve(demo_embedding, "embedding", dimensions=128).dimensions == 128


def test_resolve_takes_matryoshka_sizes_from_the_configuration(demo_embedding):
    def sizes(**keys) -> tuple[int, ...]:
        return resolve(demo_embedding, "embedding", **keys).matryoshka

    assert sizes() == ()
    assert sizes(matryoshka_dimensions=[256, 64]) == (256, 64)
    keys = {"dimensions": 128, "matryoshka_dimensions": [256]}
    message = error_of(demo_embedding, "embedding", ConfigError, **keys)
    assert "matryoshka_dimensions = 256: the model has 128" in message


def test_resolve_finds_the_context_of_a_text_part(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    text_config = {"max_position_embeddings": 512}
    edit(folder / "config.json", max_position_embeddings=None, text_config=text_config)
    assert resolve(folder).context_length == 512


def test_resolve_hub_model_is_taken_from_the_local_cache(model, tmp_path, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--name"
    shutil.copytree(model, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve("org/name").folder == repository / "snapshots" / revision


def test_resolve_hub_model_that_cannot_be_fetched_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = error_of("org/name")
    assert "fetching it from the Hugging Face hub failed" in message
    assert "no connection to http://127.0.0.1:9 (ConnectError): check the network" in message


def test_list_models_fetches_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path))
    models = {
        "here": ModelConfig(path=str(model), type="chat"),
        "demo": ModelConfig(path="demo/all-minilm-l6-v2", type="embedding"),
        "wrong": ModelConfig(path=str(model), type="chat", context_length=9999),
    }
    listed = list_models(NodeConfig(api=ApiConfig(models=models)))
    (here, demo, wrong), served = zip(*listed, strict=True)
    assert [model and model.id for model in served] == ["here", None, None]
    assert here[:2] == ("here", "chat")
    assert here[3:5] == ("512", "yes")
    assert demo[2:5] == ("-", "-", "no")
    assert wrong[4].startswith("error: context_length = 9999")
    assert list(tmp_path.iterdir()) == []


def test_resolve_goes_on_after_a_model_that_fails(model, tmp_path):
    cut = Path(shutil.copytree(model, tmp_path / "cut"))
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shard = Path(shutil.copytree(model, tmp_path / "shard"))
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (shard / "model.safetensors.index.json").write_text(json.dumps(index))
    odd = Path(shutil.copytree(model, tmp_path / "odd"))
    (odd / "config.json").write_bytes(b"\xff{}")
    no_weights = Path(shutil.copytree(model, tmp_path / "none"))
    (no_weights / "model.safetensors").write_bytes(b"")
    paths = {
        "gone": ("/no/model", "no such folder"),
        "cut": (cut, "download it again"),
        "shard": (shard, "model-00002.safetensors"),
        "odd": (odd, "config.json cannot be read"),
        "none": (no_weights, "safetensors file"),
        "whole": (model, None),
    }
    models = {id: ModelConfig(path=str(path), type="chat") for id, (path, _) in paths.items()}
    resolved = resolve_each(NodeConfig(api=ApiConfig(models=models)), print)
    assert [served.id for served in resolved.models] == ["whole"]
    assert list(resolved.failed) == ["gone", "cut", "shard", "odd", "none"]
    for id, reason in resolved.failed.items():
        assert paths[id][1] in reason


def test_resolve_survives_an_exception_of_any_type(model, monkeypatch):
    def describe(*_: object) -> ServedModel:
        raise ZeroDivisionError("by a strange file")

    monkeypatch.setattr("mlxnode.models.resolve.describe", describe)
    resolved = resolve_each(configure(model), print)
    assert resolved.failed == {"mine": "ZeroDivisionError: by a strange file"}


def test_resolve_import_is_light():
    code = (
        "import sys, mlxnode.models.resolve; "
        "print(sorted({'mlx', 'sanic', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
