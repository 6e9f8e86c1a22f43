"""The configuration that ``mlxnode init`` writes."""

import re
from pathlib import Path

import pytest
import tomli

from mlxnode.config.file import load_config
from mlxnode.config.keys import ApiKey
from mlxnode.config.starter import new_key, starter_path, starter_text, write_starter
from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ConfigError

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    write_starter(file, text, is_forced=False)
    return file


def test_starter_sets_a_key_and_an_address_and_nothing_else(tmp_path):
    key = new_key()
    loaded = load_config(write(tmp_path, starter_text(key, "0.0.0.0:9000")), environ={})
    assert (loaded.host, loaded.port, loaded.warnings) == ("0.0.0.0", 9000, ())
    assert loaded.api_keys == [ApiKey.unnamed(key)]
    default = NodeConfig.model_validate(
        {"api": {"address": "0.0.0.0:9000", "api_key": key, "require_auth": True}}
    )
    config = loaded.config.model_copy(
        update={"api": loaded.config.api.model_copy(update={"models": {}})}
    )
    assert config == default
    assert not tomli.loads(starter_text(key))["api"].get("models")


def test_starter_keys_are_long_and_differ():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"sk-[\w-]{43}", key, re.ASCII) for key in keys)


def test_starter_explains_what_the_shipped_file_explains():
    """Which is every key: ``test_config_shipped_file_explains_every_key``."""

    def explained(text: str) -> list[tuple[str, str]]:
        found = re.findall(r"^(?:# )?(\[[\w.-]+\]|\w+(?= = )).*?(# .*)?$", text, re.MULTILINE)
        return [(name, "" if name in ("api_key", "address") else why) for name, why in found]

    shipped = explained((ROOT / "config.toml").read_text())
    assert len(shipped) > 80
    assert explained(starter_text("sk-x", "0.0.0.0:80")) == shipped


def test_starter_is_valid_with_each_table_of_a_model_and_a_key(tmp_path):
    """What is commented out can be used as it is: one table at a time."""
    text = starter_text("sk-x")
    tables = re.findall(r"^# \[api\.(?:models|keys)\.[^\]]+\].*\n(?:# \w+ = .*\n)+", text, re.M)
    assert len(tables) >= 6
    for table in tables:
        lines = table.replace("\n# ", "\n").removeprefix("# ").splitlines()
        if lines[0].startswith("[api.keys"):
            lines = [line for line in lines if not re.match(r"(key_file|sha256|models) ", line)]
        tables = tomli.loads(text) | {}
        name = lines[0].partition("[")[2].partition("]")[0]
        entry = tomli.loads("\n".join(lines))["api"]
        tables["api"] |= entry
        NodeConfig.model_validate(tables), name


def test_write_starter_never_replaces_a_file_unless_it_is_forced(tmp_path):
    file = tmp_path / "inner" / "config.toml"
    write_starter(file, "one", is_forced=False)
    with pytest.raises(ConfigError, match=r"exists; --force replaces it"):
        write_starter(file, "two", is_forced=False)
    assert file.read_text() == "one"
    file.chmod(0o644)
    write_starter(file, "two", is_forced=True)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("two", 0o600)
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_write_starter_says_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: File exists"):
        write_starter(tmp_path / "file" / "config.toml", "", is_forced=False)


def test_starter_path_is_the_file_that_a_node_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert starter_path({}, None) == tmp_path / ".config/mlxnode/config.toml"
    named = {"MLXNODE_CONFIG": "~/my.toml"}
    assert starter_path(named, Path("/opt/homebrew")) == tmp_path / "my.toml"
    assert starter_path({}, Path("/b")) == Path("/b/etc/mlxnode/config.toml")
