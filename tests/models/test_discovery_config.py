"""How the configuration and the models on the disk come together."""

import pytest
from support.disk import types_of

from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError
from mlxnode.models.discovery.complete import complete


def test_nothing_found_serves_the_demo_models_with_a_file_and_without(disk, monkeypatch):
    demo = {"smollm2-135m-instruct": "chat", "all-minilm-l6-v2": "embedding"}
    assert types_of(disk.load()) == demo
    monkeypatch.chdir(disk.folder / "search")
    alone = complete(load_config(environ={}))
    assert alone.file is None and types_of(alone) == demo
    assert all(model.preload for model in alone.config.api.models.values())
    disk.put_in_hub("chat", "org/Model")
    assert types_of(complete(load_config(environ={}))) == {"org/Model": "chat"}


def test_discovery_is_off_with_models_of_the_file_unless_it_is_enabled(disk):
    disk.put("chat", disk.search / "found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    assert list(types_of(disk.load("", table))) == ["mine"]
    assert list(types_of(disk.load("enabled = true", table))) == ["mine", "found"]
    assert types_of(disk.load("enabled = false")) == {}


def test_models_of_the_command_line_are_no_demo(disk, monkeypatch):
    disk.put_in_hub("chat", "org/Model")
    monkeypatch.chdir(disk.folder / "search")
    models = {"mine": {"path": "/mine", "type": "chat"}}
    loaded = complete(load_config(environ={}, overrides={"api.models": models}))
    assert list(types_of(loaded)) == ["mine"]


def test_a_search_folder_that_is_not_there_is_a_warning(disk):
    loaded = disk.load()
    assert loaded.warnings == ()
    disk.search.rmdir()
    assert disk.load().warnings == ('server.discovery.search: "search" is no folder',)
    disk.config.write_text(
        "[server.discovery]\nsearch = ['~nobody-of-this-name/x']\n[api]\nrequire_auth = false\n"
    )
    with pytest.raises(ConfigError, match=r"config.toml: server.discovery.search = \"~nobody"):
        complete(load_config(disk.config, environ={}))


def test_idle_unload_of_found_models_can_be_set_and_switched_off(disk):
    disk.put("chat", disk.search / "found")
    assert disk.load("idle_unload = 5.0").config.api.models["found"].idle_unload == 5
    assert disk.load("idle_unload = 0").config.api.models["found"].idle_unload is None


# --- aliases ------------------------------------------------------------------------------


def test_short_names_are_not_ambiguous_and_hide_no_id(disk):
    disk.put_in_hub("chat", "one/Same")
    disk.put_in_hub("embedding", "two/Same")
    disk.put_in_hub("chat", "three/Taken")
    disk.put("chat", disk.search / "taken")
    loaded = disk.load()
    assert len(loaded.found) == 4 and loaded.aliases == {}


def test_aliases_of_the_user_name_any_model(disk):
    disk.put("chat", disk.search / "Found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    aliases = "aliases = { gpt-4o = 'Found', small = 'found', own = 'mine' }"
    loaded = disk.load(f"enabled = true\n{aliases}", table)
    expected = {"gpt-4o": "Found", "small": "Found", "own": "mine"}
    assert loaded.aliases == expected | {"found": "Found"}
    assert disk.load("aliases = { own = 'mine' }", table).aliases == {"own": "mine"}


def test_an_alias_that_names_nothing_is_an_error_or_a_warning(disk):
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match=r"aliases.x = \"none\": there is no such model"):
        disk.load("aliases = { x = 'none' }", table)
    loaded = disk.load("enabled = true\naliases = { x = 'none' }", table)
    assert loaded.aliases == {} and 'x = "none": there is no such model' in loaded.warnings[0]


def test_an_alias_hides_no_model(disk):
    disk.put("chat", disk.search / "found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match=r"aliases\.mine: there is a model of this id"):
        disk.load("aliases = { mine = 'mine' }", table)
    loaded = disk.load("enabled = true\naliases = { found = 'mine' }", table)
    assert loaded.aliases == {} and "found model has this id" in loaded.warnings[0]
    with pytest.raises(ConfigError, match="expected a name"):
        disk.load('aliases = { "" = "mine" }', table)


def test_keys_may_name_found_models_and_aliases(disk):
    disk.put("chat", disk.search / "Found")
    key = "[api.keys.k]\nkey = 'sk-1'\nmodels = ['found', 'later']\n"
    loaded = disk.load("", key)
    assert loaded.api_keys[0].models == {"Found", "later"}
    assert loaded.warnings == ("api.keys.k.models: there is no model 'later' now",)
    mine = "[api.models.mine]\npath = 'mine'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match="no model is called 'found'"):
        disk.load("", key + mine)
