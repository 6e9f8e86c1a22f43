import dataclasses
import json

import pytest
from support import tiny

from mlxnode.messages.data import Sampling
from mlxnode.server.answer.sampling import samplings_of
from mlxnode.server.answer.settings import Settings
from mlxnode.server.errors import ApiError
from mlxnode.server.registry.registry import Registry


def registry_with(served_models, tmp_path, generation_config, **facts) -> Registry:
    folder = tiny.make_chat_model(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(generation_config))
    changes = {"id": "m", "folder": folder, "default_temperature": None} | facts
    return Registry([dataclasses.replace(served_models[0], **changes)])


def test_sampling_defaults_are_openai_s(served_models, tmp_path):
    model = registry_with(served_models, tmp_path, {}).find_text("m")
    assert samplings_of(Settings(), model) == [
        Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=None)
    ]


def test_sampling_request_over_config_over_model(served_models, tmp_path):
    own = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    model = registry_with(served_models, tmp_path, own).find_text("m")
    assert samplings_of(Settings(), model) == [
        Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0, seed=None)
    ]
    requested = Settings(temperature=0.0, top_p=0.5, top_k=-1, min_p=0.1, seed=-1)
    [sampling] = samplings_of(requested, model)
    assert sampling == Sampling(temperature=0.0, top_p=0.5, top_k=0, min_p=0.1, seed=2**64 - 1)


def test_sampling_configured_temperature_wins_over_the_model_s(served_models, tmp_path):
    own = {"temperature": 0.6}
    registry = registry_with(served_models, tmp_path, own, default_temperature=0.0)
    [sampling] = samplings_of(Settings(), registry.find_text("m"))
    assert sampling.temperature == 0.0


def test_registry_says_why_tools_are_told_in_plain_words(served_models, tmp_path, caplog):
    with caplog.at_level("INFO", "mlxnode.server"):
        registry_with(served_models, tmp_path, {})
    reason = "the template does not write the calls of earlier answers"
    assert f"m: tools are told in plain words: {reason}" in caplog.messages


def test_registry_refuses_chat_without_a_template(served_models, tmp_path):
    folder = tiny.make_chat_model(tmp_path)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["chat_template"]
    file.write_text(json.dumps(config))
    model = dataclasses.replace(served_models[0], folder=folder)
    assert "no chat template" in Registry([model]).failed[model.id]
    assert not Registry([dataclasses.replace(model, type="completion")]).failed


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json"])
def test_registry_names_a_broken_file_s_folder(served_models, tmp_path, name):
    folder = tiny.make_chat_model(tmp_path)
    (folder / name).write_text("{")
    registry = Registry([dataclasses.replace(served_models[0], folder=folder)])
    assert tmp_path.name in registry.failed["tiny-chat"]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[]", '{"chat_template": 5}', '{"model": {"type": "X"}}'])
def test_registry_survives_files_of_any_contents(served_models, tmp_path, name, content):
    folder = tiny.make_chat_model(tmp_path)
    (folder / name).write_text(content)
    broken = dataclasses.replace(served_models[0], id="broken", folder=folder)
    registry = Registry([broken, *served_models])
    assert registry.find_chat("tiny-chat")
    if "broken" in registry.failed:
        with pytest.raises(ApiError) as caught:
            registry.find_chat("broken")
        assert (caught.value.status, caught.value.code) == (503, "model_failed")


def test_registry_own_failures_outlive_what_the_supervisor_says(served_models, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = dataclasses.replace(served_models[0], id="broken", folder=tmp_path)
    registry = Registry([broken, *served_models], {"gone": "chat", "broken": "chat"})
    with pytest.raises(ApiError) as caught:
        registry.find("gone")  # the supervisor has not said why yet
    assert (caught.value.status, caught.value.code) == (503, "server_is_overloaded")
    registry.set_failed({"gone": "no such folder"})
    assert list(registry.failed) == ["gone", "broken"]
    view = registry.restricted_to(frozenset({"tiny-chat", "gone"}))
    assert list(view.types) == ["gone", "tiny-chat"] and list(view.served) == ["tiny-chat"]
    registry.set_failed({})
    assert list(registry.failed) == ["broken"]


@pytest.mark.parametrize(
    ("find", "model_id", "status"),
    [
        ("find_chat", "tiny-embedding", 400),
        ("find_chat", "org/tiny-text", 400),
        ("find_text", "tiny-embedding", 400),
        ("find_embedding", "tiny-chat", 400),
        ("find_chat", "nobody", 404),
    ],
)
def test_registry_says_what_a_model_is_for(served_models, find, model_id, status):
    with pytest.raises(ApiError) as caught:
        getattr(Registry(served_models), find)(model_id)
    assert (caught.value.status, caught.value.param) == (status, "model")
    assert ("/v1/" in caught.value.message) == (status == 400)


def test_registry_restricted_to_some_models_has_no_others(served_models):
    registry = Registry(served_models)
    view = registry.restricted_to(frozenset({"org/tiny-text"}))
    assert view.find_text("org/tiny-text") is registry.find_text("org/tiny-text")
    with pytest.raises(ApiError) as caught:
        view.find_chat("tiny-chat")
    assert caught.value.code == "model_not_found"
    assert registry.restricted_to(None).find_chat("tiny-chat")
    assert list(registry.served) == [model.id for model in served_models]
