"""The configuration file: found, read, and refused with helpful error messages."""

from pathlib import Path
from typing import get_args

import pytest
import tomli
from pydantic import BaseModel
from support.config_file import MODEL, OPEN, error_of

from mlxnode.config.file import load_config
from mlxnode.config.keys import ApiKey
from mlxnode.config.several import DistributedConfig, SharedLimitsConfig
from mlxnode.config.tables import (
    ApiConfig,
    Backend,
    BatchesConfig,
    DiscoveryConfig,
    EngineConfig,
    KeyConfig,
    ModelConfig,
    NodeConfig,
    ServerConfig,
)
from mlxnode.kernels import backend

SHIPPED = Path(__file__).parents[2] / "config.toml"


def test_config_shipped_file_is_valid_and_serves_the_demo_models():
    loaded = load_config(SHIPPED, environ={})
    assert [model.path for model in loaded.config.api.models.values()] == [
        "demo/smollm2-135m-instruct",
        "demo/all-minilm-l6-v2",
    ]
    assert (loaded.host, loaded.port) == ("127.0.0.1", 8080)
    assert loaded.api_keys == [ApiKey.unnamed("sk-your-secret-key")]


_APART = {
    DiscoveryConfig: "server.discovery",
    BatchesConfig: "server.batches",
    SharedLimitsConfig: "server.shared_limits",
    DistributedConfig: "engine.distributed",
}


@pytest.mark.parametrize(
    "table",
    [
        ApiConfig,
        KeyConfig,
        ModelConfig,
        ServerConfig,
        DiscoveryConfig,
        BatchesConfig,
        SharedLimitsConfig,
        EngineConfig,
        DistributedConfig,
    ],
)
def test_config_shipped_file_explains_every_key(table: type[BaseModel]):
    text = SHIPPED.read_text()
    if name := _APART.get(table):
        # Other tables have keys of the same names.
        text = text.rpartition(f"[{name}]\n")[2].partition("\n[")[0]
    for name, field in table.model_fields.items():
        if (table, name) in (
            (ApiConfig, "keys"),
            (ApiConfig, "models"),
            (ServerConfig, "discovery"),
            (ServerConfig, "batches"),
            (ServerConfig, "shared_limits"),
            (EngineConfig, "distributed"),
        ):
            continue  # tables of their own
        lines = [
            line for line in text.splitlines() if line.lstrip("# ").startswith(f"{name} =")
        ]
        assert lines, f"{table.__name__}.{name} is not in config.toml"
        has_default = not field.is_required() and field.default is not None
        if table not in (ApiConfig, KeyConfig, ModelConfig) and has_default:
            assert tomli.loads(lines[0].lstrip("# "))[name] == field.default


def test_config_unknown_key_names_the_nearest(write):
    error = error_of(write("[api]\nadress = '127.0.0.1:1'\nrequire_auth = false"))
    assert error.endswith("config.toml: api.adress: unknown key; did you mean address?")
    error = error_of(write(OPEN + MODEL + "dimension = 5"))
    assert "api.models.m.dimension: unknown key; did you mean dimensions?" in error
    assert "server.x: unknown key; known are workers" in error_of(write("[server]\nx = 1"))
    error = error_of(write(OPEN + MODEL.replace("models.m", 'models."org/a.b\\n"') + "x = 1"))
    assert 'api.models."org/a.b\\n".x: unknown key' in error
    assert "\n" not in error


def test_config_wrong_values_name_key_value_and_expectation(write):
    error = error_of(write(OPEN + MODEL.replace('"chat"', '"chatty"') + "context_length = 0\n"))
    first, second = error.splitlines()
    assert "api.models.m.type = 'chatty': input should be 'chat', 'completion'" in first
    assert (
        "api.models.m.context_length = 0: input should be greater than or equal to 1" in second
    )
    assert "server.workers = 'two'" in error_of(write("[server]\nworkers = 'two'"))


def test_config_missing_keys_are_named(write):
    assert "api.models.m.type: missing" in error_of(
        write(OPEN + "[api.models.m]\npath = '/m'\n")
    )


@pytest.mark.parametrize(
    "text", ["[api\n", "[api]\na = 1\na = 2\n", OPEN + MODEL + MODEL, "[api]\nx = \n"]
)
def test_config_broken_toml_names_the_place(write, text):
    error = error_of(write(text))
    assert "not valid TOML" in error
    assert "line" in error or "document" in error or "twice" in error


def test_config_file_that_cannot_be_read(tmp_path, write):
    assert "cannot be read" in error_of(tmp_path / "none.toml")
    file = write("")
    file.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in error_of(file)


def test_config_integers_are_taken_for_numbers(write):
    loaded = load_config(write(OPEN + "[server]\ndrain_timeout = 5"), environ={})
    assert loaded.config.server.drain_timeout == 5


def test_config_is_looked_for_in_order(tmp_path, monkeypatch, write):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert load_config(environ={}).file is None  # the demo models
    home = tmp_path / "home/.config/mlxnode/config.toml"
    home.parent.mkdir(parents=True)
    home.write_text(OPEN)
    assert load_config(environ={}).file == home
    here = tmp_path / "work/config.toml"
    here.write_text(OPEN)
    assert load_config(environ={}).file == here
    named = write(OPEN)
    assert load_config(environ={"MLXNODE_CONFIG": str(named)}).file == named
    assert load_config(here, environ={"MLXNODE_CONFIG": str(named)}).file == here


def test_config_overrides_stand_in_for_the_file(write):
    loaded = load_config(
        write(OPEN), environ={}, overrides={"server.workers": 5, "api.address": None}
    )
    assert loaded.config.server.workers == 5
    assert loaded.port == 8080
    error = error_of(write("server = 5\n" + OPEN), overrides={"server.workers": 2})
    assert "server = 5: input should be" in error
    assert "server.workers = 0" in error_of(write(OPEN), overrides={"server.workers": 0})


def test_config_defaults_are_those_of_the_tables(write):
    assert load_config(write(OPEN), environ={}).config == NodeConfig(
        api=ApiConfig(require_auth=False)
    )


def test_config_backends_are_those_of_the_kernels():
    # The kernels import nothing of the server, and the configuration imports no mlx.
    assert get_args(Backend) == get_args(backend.Backend)


def test_config_a_volatile_pattern_is_a_regular_expression(write):
    error = error_of(write(OPEN + "[server]\nvolatile_prompt_patterns = ['a', '(b']"))
    assert "server.volatile_prompt_patterns" in error and "not a regular expression" in error
    loaded = load_config(
        write(OPEN + "[server]\nvolatile_prompt_patterns = []"), environ={}
    ).config
    assert loaded.server.volatile_prompt_patterns == []


def test_files_that_the_node_writes_are_relative_to_the_file(tmp_path):
    file = tmp_path / "config.toml"
    tables = 'usage_file = "a/b"\nrequest_log = "text"\nrequest_log_file = "~/log"\n'
    file.write_text(f"{OPEN}[server]\n{tables}{MODEL}")
    server = load_config(file, environ={}).config.server
    assert server.usage_file == str(tmp_path / "a/b")
    assert server.request_log_file == str(Path("~/log").expanduser())


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('request_log_file = "x"', 'request_log_file needs request_log = "text" or "json"'),
        ('request_log = "xml"', "server.request_log = 'xml'"),
        ('request_log = "text"\nrequest_log_file = ""', "server.request_log_file"),
        ('usage_file = "a\\u0000b"', "server.usage_file"),
        ('usage_file = "~nobody-of-this-name/x"', "server.usage_file"),
        ("usage_days = 0", "server.usage_days = 0"),
    ],
)
def test_files_that_cannot_be_written_are_errors(tmp_path, line, error):
    file = tmp_path / "config.toml"
    file.write_text(f"{OPEN}[server]\n{line}\n{MODEL}")
    assert error in error_of(file)
