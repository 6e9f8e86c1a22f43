"""The keys of the configuration, wherever they are written."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mlxnode.config.keys import ApiKey, load_api_keys
from mlxnode.config.tables import ApiConfig
from mlxnode.errors import ConfigError

MODELS = {name: {"path": f"/{name}", "type": "chat"} for name in ("m", "org/n")}


def load(folder: Path, environ: dict[str, str] | None = None, **api: Any) -> list[ApiKey]:
    tables = ApiConfig.model_validate(api)
    return load_api_keys(tables, folder, environ or {}, list(tables.models))


def error_of(folder: Path, environ: dict[str, str] | None = None, **api: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, environ, **api)
    return str(caught.value)


def test_api_keys_come_from_the_key_the_file_and_the_environment(tmp_path):
    (tmp_path / "keys.txt").write_text("sk-one\n\n sk-two \n")
    keys = load(
        tmp_path, {"MLXNODE_API_KEY": "sk-env"}, api_key="sk-a", api_key_file="keys.txt"
    )
    expected = ["sk-a", "sk-one", "sk-two", "sk-env"]
    assert keys == [ApiKey.unnamed(key) for key in expected]
    assert len(load(tmp_path, {"MLXNODE_API_KEY": "sk-a"}, api_key="sk-a")) == 1


def test_api_keys_hold_no_key(tmp_path):
    [key] = load(tmp_path, api_key="sk-secret")
    assert key.digest == hashlib.sha256(b"sk-secret").digest()
    assert key.id == key.digest.hex()[:12]
    assert "secret" not in repr(key)


def test_api_keys_of_tables_are_written_in_three_ways(tmp_path):
    (tmp_path / "bob.key").write_text("sk-bob\n")
    tables = {
        "alice": {"key": "sk-alice"},
        "bob": {"key_file": "bob.key", "models": ["m", "org/n"]},
        "carol": {"sha256": hashlib.sha256(b"sk-carol").hexdigest().upper()},
    }
    keys = load(tmp_path, keys=tables, models=MODELS)
    assert [key.id for key in keys] == ["alice", "bob", "carol"]
    for key in keys:
        assert key.digest == hashlib.sha256(f"sk-{key.id}".encode()).digest()
    assert [key.models for key in keys] == [None, frozenset({"m", "org/n"}), None]


def test_api_keys_are_given_once(tmp_path):
    error = error_of(tmp_path, keys={"a": {"key": "sk-1"}, "b": {"key": "sk-1"}})
    assert error == "api.keys.b: the same key as api.keys.a"
    error = error_of(tmp_path, api_key="sk-1", keys={"a": {"key": "sk-1"}})
    assert error == "api.keys.a: the same key as api.api_key"


def test_api_keys_name_where_an_unusable_one_is_from(tmp_path):
    (tmp_path / "keys.txt").write_text("sk-one\nsk-tw\u00f6\n")
    error = error_of(tmp_path, api_key_file="keys.txt")
    assert error.startswith("api.api_key_file: expected printable ASCII")
    assert "sk-" not in error
    error = error_of(tmp_path, {"MLXNODE_API_KEY": ""})
    assert error.startswith("$MLXNODE_API_KEY: expected printable ASCII")
    error = error_of(tmp_path, keys={"a": {"key": "sk a"}})
    assert error.startswith("api.keys.a.key: expected printable ASCII")
    assert "not empty" in error_of(tmp_path, api_key="")
    error = error_of(tmp_path, keys={"a": {"sha256": hashlib.sha256(b"").hexdigest()}})
    assert error == "api.keys.a.sha256: this is the SHA-256 of nothing"


def test_api_keys_file_of_a_table_has_a_key(tmp_path):
    (tmp_path / "a.key").write_text("\n")
    error = error_of(tmp_path, keys={"a": {"key_file": "a.key"}})
    assert error == 'api.keys.a.key_file = "a.key": expected a line with a key'


def test_api_keys_file_of_a_table_has_the_old_and_the_new_key_while_it_is_replaced(tmp_path):
    (tmp_path / "a.key").write_text("sk-1\nsk-2\nsk-1\n")
    keys = load(tmp_path, keys={"a": {"key_file": "a.key", "models": ["m"]}}, models=MODELS)
    assert [key.id for key in keys] == ["a", "a"] and keys[0].models == {"m"}
    assert {key.digest for key in keys} == {ApiKey.unnamed(k).digest for k in ("sk-1", "sk-2")}


def test_api_keys_of_administrators_are_apart(tmp_path):
    (tmp_path / "admin").write_text("sk-2\n\nsk-3\n")
    environ = {"MLXNODE_ADMIN_KEY": "sk-4"}
    api = {"api_key": "sk-0", "admin_key": "sk-1", "admin_key_file": "admin"}
    user, *admins = load(tmp_path, environ, **api)
    assert not user.is_admin and all(key.is_admin for key in admins)
    assert [key.digest for key in admins] == [
        ApiKey.unnamed(f"sk-{number}").digest for number in (1, 2, 3, 4)
    ]
    assert all(key.id.startswith("admin-") for key in admins)


def test_api_keys_of_administrators_are_no_user_s(tmp_path):
    error = error_of(tmp_path, api_key="sk-1", admin_key="sk-1")
    assert error == "api.admin_key: the same key as api.api_key"
    error = error_of(tmp_path, keys={"a": {"key": "sk-1"}}, admin_key="sk-1")
    assert error == "api.admin_key: the same key as api.keys.a"
    assert "there is no key" in error_of(tmp_path, admin_key="sk-1")
    assert "expected printable ASCII" in error_of(tmp_path, api_key="sk-0", admin_key="s k")
    (tmp_path / "admin").write_text("")
    error = error_of(tmp_path, api_key="sk-0", admin_key_file="admin")
    assert error == 'api.admin_key_file = "admin": expected a line with a key'


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_api_keys_file_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    assert error_of(tmp_path, api_key_file="keys") == (
        'api.api_key_file = "keys": cannot be read'
    )
    assert error_of(tmp_path, keys={"a": {"key_file": "keys"}}) == (
        'api.keys.a.key_file = "keys": cannot be read'
    )


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "x" * 65, "caf\u00e9"])
def test_api_keys_have_names_that_fit_the_log(tmp_path, name):
    error = error_of(tmp_path, keys={name: {"key": "sk-1"}})
    assert "expected a name of at most 64 letters" in error
    assert error.isascii() and error.isprintable()


def test_api_keys_may_use_models_that_there_are(tmp_path):
    tables = {"a": {"key": "sk-1", "models": ["m", "x"]}}
    error = error_of(tmp_path, keys=tables, models=MODELS)
    assert error == "api.keys.a.models: no model is called 'x'; there are m, org/n"


def test_api_keys_are_missing(tmp_path):
    assert "api.keys.<name>" in error_of(tmp_path)
    assert load(tmp_path, require_auth=False) == []
