import asyncio
import dataclasses
import json

import pytest
from support import tiny
from tokenizers import Tokenizer

from mlxnode.messages.control import Models
from mlxnode.messages.data import ModelStates, Sampling
from mlxnode.server.answer.sampling import samplings_of
from mlxnode.server.answer.settings import Settings
from mlxnode.server.errors import ApiError, ModelFailed
from mlxnode.server.registry.facts import Facts
from mlxnode.server.registry.opened import TextModel
from mlxnode.server.registry.registry import Registry, unopenable


async def opened(registry: Registry) -> Registry:
    """``registry``, once it has tried to open all of its models."""
    await registry.open_preloaded()
    return registry


async def model_with(served_models, tmp_path, generation_config, **facts) -> TextModel:
    folder = tiny.make_chat_model(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(generation_config))
    changes = {"id": "m", "folder": folder, "default_temperature": None} | facts
    return await Registry([dataclasses.replace(served_models[0], **changes)]).find_text("m")


async def test_sampling_defaults_are_openai_s(served_models, tmp_path):
    model = await model_with(served_models, tmp_path, {})
    assert samplings_of(Settings(), model) == [
        Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=None)
    ]


async def test_sampling_request_over_config_over_model(served_models, tmp_path):
    own = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    model = await model_with(served_models, tmp_path, own)
    assert samplings_of(Settings(), model) == [
        Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0, seed=None)
    ]
    requested = Settings(temperature=0.0, top_p=0.5, top_k=-1, min_p=0.1, seed=-1)
    [sampling] = samplings_of(requested, model)
    assert sampling == Sampling(temperature=0.0, top_p=0.5, top_k=0, min_p=0.1, seed=2**64 - 1)


async def test_sampling_configured_temperature_wins_over_the_model_s(served_models, tmp_path):
    own = {"temperature": 0.6}
    model = await model_with(served_models, tmp_path, own, default_temperature=0.0)
    [sampling] = samplings_of(Settings(), model)
    assert sampling.temperature == 0.0


async def test_registry_says_why_tools_are_told_in_plain_words(served_models, tmp_path, caplog):
    with caplog.at_level("INFO", "mlxnode.server"):
        await model_with(served_models, tmp_path, {})
    reason = "the template does not write the calls of earlier answers"
    assert f"m: tools are told in plain words: {reason}" in caplog.messages


async def test_registry_refuses_chat_without_a_template(served_models, tmp_path):
    folder = tiny.make_chat_model(tmp_path)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["chat_template"]
    file.write_text(json.dumps(config))
    model = dataclasses.replace(served_models[0], folder=folder)
    registry = await opened(Registry([model]))
    assert "no chat template" in registry.failed[model.id]
    assert await asyncio.to_thread(unopenable, [model]) == registry.failed
    assert not (await opened(Registry([dataclasses.replace(model, type="completion")]))).failed


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json"])
async def test_registry_names_a_broken_file_s_folder(served_models, tmp_path, name):
    folder = tiny.make_chat_model(tmp_path)
    (folder / name).write_text("{")
    registry = Registry([dataclasses.replace(served_models[0], folder=folder)])
    assert tmp_path.name in (await opened(registry)).failed["tiny-chat"]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[]", '{"chat_template": 5}', '{"model": {"type": "X"}}'])
async def test_registry_survives_files_of_any_contents(served_models, tmp_path, name, content):
    folder = tiny.make_chat_model(tmp_path)
    (folder / name).write_text(content)
    broken = dataclasses.replace(served_models[0], id="broken", folder=folder)
    registry = await opened(Registry([broken, *served_models]))
    assert await registry.find_chat("tiny-chat")
    if "broken" in registry.failed:
        with pytest.raises(ApiError) as caught:
            await registry.find_chat("broken")
        assert (caught.value.status, caught.value.code) == (503, "model_failed")


async def test_registry_own_failures_outlive_what_the_supervisor_says(served_models, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = dataclasses.replace(served_models[0], id="broken", folder=tmp_path)
    registry = Registry([broken, *served_models], {"gone": "chat", "broken": "chat"})
    await registry.open_preloaded()
    with pytest.raises(ApiError) as caught:
        registry.find("gone")  # the supervisor has not said why yet
    assert (caught.value.status, caught.value.code) == (503, "server_is_overloaded")
    registry.catalog.reasons = {"gone": "no such folder"}
    assert list(registry.failed) == ["gone", "broken"]
    view = registry.restricted_to(frozenset({"tiny-chat", "gone"}))
    assert list(view.types) == ["gone", "tiny-chat"] and list(view.served) == ["tiny-chat"]
    registry.catalog.reasons = {}
    assert list(registry.failed) == ["broken"]


@pytest.mark.parametrize(
    ("find", "model_id", "status"),
    [
        ("find_chat", "tiny-embedding", 400),
        ("find_chat", "org/tiny-text", 400),
        ("find_text", "tiny-embedding", 400),
        ("find_embedding", "tiny-chat", 400),
        ("find_scorer", "tiny-chat", 400),
        ("find_chat", "nobody", 404),
    ],
)
async def test_registry_says_what_a_model_is_for(served_models, find, model_id, status):
    registry = Registry(served_models)
    with pytest.raises(ApiError) as caught:
        await getattr(registry, find)(model_id)
    assert (caught.value.status, caught.value.param) == (status, "model")
    assert ("/v1/" in caught.value.message) == (status == 400)
    assert registry.opener.ids == []


async def test_registry_restricted_to_some_models_has_no_others(served_models):
    registry = Registry(served_models)
    view = registry.restricted_to(frozenset({"org/tiny-text"}))
    text = await view.find_text("org/tiny-text")
    assert text is await registry.find_text("org/tiny-text")
    with pytest.raises(ApiError) as caught:
        await view.find_chat("tiny-chat")
    assert caught.value.code == "model_not_found"
    assert await registry.restricted_to(None).find_chat("tiny-chat")
    assert list(registry.served) == [model.id for model in served_models]


# --- names ------------------------------------------------------------------------------


def test_an_alias_is_another_name_of_a_model_that_the_key_may_use(served_models):
    registry = Registry(served_models)
    aliases = {"text": "org/tiny-text", "tiny-chat": "org/tiny-text", "lost": "nobody"}
    registry.replace(known(served_models, aliases))
    assert registry.id_of("text") == "org/tiny-text"
    assert registry.id_of("tiny-chat") == "tiny-chat"  # an id comes first
    assert registry.aliases == {"text": "org/tiny-text"}
    assert registry.restricted_to(frozenset({"org/tiny-text"})).id_of("text")
    for view, name in [(registry, "lost"), (registry.restricted_to(frozenset()), "text")]:
        with pytest.raises(ApiError) as caught:
            view.id_of(name)
        assert caught.value.code == "model_not_found"


# --- models that change -----------------------------------------------------------------


async def test_models_that_change_are_opened_anew_and_others_are_not(served_models):
    registry = Registry(served_models)
    chat = await registry.find_chat("tiny-chat")
    text = await registry.find_text("org/tiny-text")
    longer = dataclasses.replace(served_models[0], context_length=77)
    equal = [dataclasses.replace(model) for model in served_models[1:2]]
    registry.replace(known([longer, *equal]))
    assert (await registry.find_chat("tiny-chat")).served.context_length == 77
    assert await registry.find_text("org/tiny-text") is text
    assert chat.served.context_length == 1024  # for the requests that have it
    with pytest.raises(ApiError) as caught:
        await registry.find_embedding("tiny-embedding")
    assert caught.value.status == 404


# --- what the engine tells --------------------------------------------------------------


async def test_a_model_that_the_engine_unloads_is_forgotten(served_models):
    registry = Registry(served_models)
    registry.note_states(ModelStates({"tiny-chat": "loaded", "org/tiny-text": "unloaded"}))
    chat = await registry.find_chat("tiny-chat")
    text = await registry.find_text("org/tiny-text")
    registry.note_states(ModelStates({"tiny-chat": "unloaded", "org/tiny-text": "unloaded"}))
    assert registry.opener.ids == ["org/tiny-text"]  # which waits to be loaded, maybe
    assert await registry.find_chat("tiny-chat") is not chat
    assert await registry.find_text("org/tiny-text") is text


async def test_states_are_unknown_without_an_engine(served_models):
    lazy = dataclasses.replace(served_models[1], preload=False)
    registry = Registry([served_models[0], lazy])
    status = registry.status_of
    assert status("tiny-chat") == ("loading", None) and status(lazy.id) == ("unloaded", None)
    registry.note_states(ModelStates({"tiny-chat": "unloaded", lazy.id: "loaded"}, [lazy.id]))
    assert status("tiny-chat") == ("unloaded", None) and status(lazy.id) == ("loaded", None)
    assert registry.catalog.is_pinned(lazy.id)
    registry.note_states(None)
    assert status("tiny-chat") == ("loading", None) and status(lazy.id) == ("unloaded", None)
    assert not registry.catalog.is_pinned(lazy.id)


async def test_the_engine_judges_the_models_that_it_knows(served_models):
    registry = Registry(served_models)
    registry.catalog.reasons = {"tiny-chat": "no memory", "org/tiny-text": "it crashed"}
    registry.note_states(ModelStates({"tiny-chat": "unloaded"}))
    assert registry.find("tiny-chat") and registry.status_of("tiny-chat")[0] == "failed"
    with pytest.raises(ModelFailed, match="it crashed"):
        registry.find("org/tiny-text")
    registry.note_states(ModelStates({"tiny-chat": "loading"}))
    assert registry.status_of("tiny-chat") == ("loading", None)


# --- facts ------------------------------------------------------------------------------


async def test_facts_are_read_without_opening(served_models, tmp_path):
    folder = tiny.make_chat_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    quantized = {"quantization": {"bits": 4, "group_size": 64, "mode": "affine"}}
    (folder / "config.json").write_text(json.dumps(config | quantized))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    broken = dataclasses.replace(served_models[0], id="broken", folder=tmp_path / "nothing")
    model = dataclasses.replace(served_models[0], folder=folder)
    registry = Registry([model, broken, served_models[1]])
    facts = await registry.facts()
    assert facts["tiny-chat"] == Facts(quantization="4-bit", fills_in_the_middle=True)
    assert facts["org/tiny-text"] == Facts()
    assert list(facts) == ["tiny-chat", "broken", "org/tiny-text"]
    assert registry.opener.ids == []
    assert (await registry.find_chat("tiny-chat")).tokenizer.fill_in_the_middle


def known(models, aliases=None) -> Models:
    types = {model.id: model.type for model in models}
    return Models(models=list(models), types=types, aliases=aliases or {})
