"""The configuration file: found, read, and refused with helpful error messages."""

from pathlib import Path
from typing import get_args

import pytest
import tomli
from pydantic import BaseModel

from mlxnode.config.file import load_config
from mlxnode.config.keys import ApiKey
from mlxnode.config.tables import (
    THINKING_BUDGET_MESSAGE,
    ApiConfig,
    Backend,
    EngineConfig,
    KeyConfig,
    ModelConfig,
    NodeConfig,
    ServerConfig,
)
from mlxnode.errors import ConfigError
from mlxnode.kernels import backend

SHIPPED = Path(__file__).parents[2] / "config.toml"
MODEL = '[api.models.m]\npath = "/m"\ntype = "chat"\n'
OPEN = "[api]\nrequire_auth = false\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text)
        return file

    return write


def error_of(file: Path | None, **arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, **({"environ": {}} | arguments))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_config_shipped_file_is_valid_and_serves_the_demo_models():
    loaded = load_config(SHIPPED, environ={})
    assert [model.path for model in loaded.config.api.models.values()] == [
        "demo/smollm2-135m-instruct",
        "demo/all-minilm-l6-v2",
    ]
    assert (loaded.host, loaded.port) == ("127.0.0.1", 8080)
    assert loaded.api_keys == [ApiKey.unnamed("sk-your-secret-key")]


@pytest.mark.parametrize(
    "table", [ApiConfig, KeyConfig, ModelConfig, ServerConfig, EngineConfig]
)
def test_config_shipped_file_explains_every_key(table: type[BaseModel]):
    text = SHIPPED.read_text()
    for name, field in table.model_fields.items():
        if name in ("keys", "models") and table is ApiConfig:
            continue
        lines = [
            line for line in text.splitlines() if line.lstrip("# ").startswith(f"{name} =")
        ]
        assert lines, f"{table.__name__}.{name} is not in config.toml"
        if table in (ServerConfig, EngineConfig) and field.default is not None:
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


def test_config_keys_have_to_fit_the_type_of_the_model(write):
    assert "dimensions does not apply to a chat model" in error_of(
        write(OPEN + MODEL + "dimensions = 3")
    )
    assert "matryoshka_dimensions does not apply to a chat model" in error_of(
        write(OPEN + MODEL + "matryoshka_dimensions = [3]")
    )


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


def test_config_authentication_needs_a_key(write):
    assert "config.toml: api.require_auth = true, but there is no key" in error_of(
        write("[api]\n")
    )
    assert load_config(write(OPEN), environ={}).api_keys == []


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 12345",
        "api_key = 'sk 12345'",
        "keys = 'sk-12345'",
        "keys.a = 'sk-12345'",
        "keys.a.key = 12345",
        "keys.a.key = 'sk 12345'",
        "keys.a.sha256 = '12345'",
        "keys.a = {key = 'sk-12345', sha256 = '12345'}",
        "keys.a = {kye = 'sk-12345'}",
    ],
)
def test_config_never_prints_a_secret(write, text):
    error = error_of(write(f"[api]\n{text}\n"))
    assert "api.api_key: " in error or "api.keys" in error
    assert "12345" not in error


def test_config_says_what_is_wrong_with_a_key_s_table(write):
    error = error_of(write("[api.keys.a]\nkye = 'sk-a'"))
    assert error.endswith("config.toml: api.keys.a.kye: unknown key; did you mean key?")
    error = error_of(write("[api.keys.a]\nmodels = ['m']"))
    assert "api.keys.a: set one of key, key_file and sha256" in error


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "http://localhost:3000",
        "https://app.example.com",
        "http://[::1]:5173",
        "https://xn--bcher-kva.example:8443",
        "chrome-extension://abcdefghijklmnop",
        "tauri://localhost",
    ],
)
def test_config_origins_are_as_browsers_send_them(write, origin):
    text = OPEN + f'cors_enabled = true\ncors_origins = ["{origin}"]'
    assert load_config(write(text), environ={}).config.api.cors_origins == [origin]


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "localhost:3000",
        "http://localhost:3000/",
        "http://localhost:3000/app",
        "HTTP://localhost",
        "https://Example.com",
        "https://*.example.com",
        "http://localhost:80",
        "https://example.com:443",
        "http://user@host",
        "http://two words",
    ],
)
def test_config_origin_that_no_browser_would_send(write, origin):
    error = error_of(write(OPEN + f'cors_origins = ["http://a", "{origin}"]'))
    assert f"api.cors_origins.1 = '{origin}': expected \"scheme://host\"" in error


def test_config_cors_needs_an_origin(write):
    error = error_of(write(OPEN + "cors_enabled = true"))
    assert "api: cors_enabled = true, but cors_origins is empty" in error


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_config_address_is_host_and_port(write, address, host, port):
    loaded = load_config(write(OPEN + f'address = "{address}"'), environ={})
    assert (loaded.host, loaded.port) == (host, port)


@pytest.mark.parametrize("address", ["8080", "host", "::1:80", "h:65536", "h:-1", ":80", "h:x"])
def test_config_address_that_is_none(write, address):
    error = error_of(write(OPEN + f'address = "{address}"'))
    assert f'api.address = "{address}"' in error
    assert "host:port" in error


def test_config_outside_loopback_needs_a_key_of_its_own_or_a_written_no(write, monkeypatch):
    example = "[api]\naddress = '0.0.0.0:1'\napi_key = 'sk-your-secret-key'"
    assert "choose a key of your own" in error_of(write(example))
    assert "there is no key" in error_of(write("[api]\naddress = '0.0.0.0:1'"))
    load_config(write("[api]\naddress = '0.0.0.0:1'\napi_key = 'sk-mine'"), environ={})
    load_config(write(OPEN + "address = '0.0.0.0:1'"), environ={})
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert "write a configuration file" in error_of(
        None, overrides={"api.address": "0.0.0.0:1"}
    )


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


@pytest.mark.parametrize(
    ("engine", "model", "expected"),
    [(None, None, None), (8, None, 8), (8, 4, 4), (8, 0, None), (None, 4, 4), (None, 0, None)],
)
def test_config_kv_cache_bits_of_a_model_come_before_the_engines(
    write, engine, model, expected
):
    lines = [OPEN + MODEL, "" if model is None else f"kv_cache_bits = {model}", "[engine]"]
    file = write("\n".join([*lines, "" if engine is None else f"kv_cache_bits = {engine}"]))
    config = load_config(file, environ={}).config
    found = config.engine.for_model(config.api.models["m"].kv_cache_bits)
    assert found.kv_cache_bits == expected
    assert found.model_copy(update={"kv_cache_bits": engine}) == config.engine


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("kv_cache_bits = 2", "kv_cache_bits = 2: input should be 0, 4 or 8"),
        ('type = "embedding"\nkv_cache_bits = 8', "does not apply to an embedding model"),
        ('type = "rerank"\nkv_cache_bits = 8', "kv_cache_bits does not apply to a reranker"),
        ('type = "rerank"\ndefault_temperature = 1.0', "does not apply to a reranker"),
        ('type = "rerank"\ndimensions = 8', "dimensions does not apply to a reranker"),
        ('type = "rerank"\nmatryoshka_dimensions = [8]', "does not apply to a reranker"),
        ('type = "rerank"\nthinking_budget = 8', "applies to chat models only"),
    ],
)
def test_config_refuses_kv_cache_bits_that_a_model_cannot_have(write, line, error):
    table = MODEL.replace('type = "chat"\n', "") if "type" in line else MODEL
    assert error in error_of(write(OPEN + table + line))


def test_config_a_thinking_budget_has_a_closing_message(write):
    def table(*lines: str) -> ModelConfig:
        file = write("\n".join([OPEN + MODEL, *lines]))
        return load_config(file, environ={}).config.api.models["m"]

    assert table().thinking_budget is None
    found = table("thinking_budget = 0")
    assert found.thinking_budget == 0
    assert found.thinking_budget_message == THINKING_BUDGET_MESSAGE
    assert table('thinking_budget_message = ""').thinking_budget_message == ""


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("thinking_budget = -1", "thinking_budget = -1: "),
        ('type = "completion"\nthinking_budget = 5', "thinking_budget applies to chat models"),
        (
            'type = "embedding"\nthinking_budget_message = ""',
            "thinking_budget_message applies to chat models",
        ),
    ],
)
def test_config_refuses_a_thinking_budget_that_a_model_cannot_have(write, lines, error):
    table = MODEL.replace('type = "chat"\n', "") if "type" in lines else MODEL
    assert error in error_of(write(OPEN + table + lines))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("completion", "a completion model"),
        ("embedding", "an embedding model"),
        ("rerank", "a reranker"),
    ],
)
def test_config_control_tokens_are_allowed_to_chat_models_alone(write, kind, name):
    table = MODEL.replace('"chat"', f'"{kind}"') + "allow_control_tokens = true"
    error = error_of(write(OPEN + table))
    assert f"allow_control_tokens does not apply to {name}" in error
    loaded = load_config(write(OPEN + MODEL + "allow_control_tokens = true"), environ={})
    assert loaded.config.api.models["m"].allow_control_tokens is True


def test_config_a_volatile_pattern_is_a_regular_expression(write):
    error = error_of(write(OPEN + "[server]\nvolatile_prompt_patterns = ['a', '(b']"))
    assert "server.volatile_prompt_patterns" in error and "not a regular expression" in error
    loaded = load_config(
        write(OPEN + "[server]\nvolatile_prompt_patterns = []"), environ={}
    ).config
    assert loaded.server.volatile_prompt_patterns == []
