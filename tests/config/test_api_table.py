"""The table of the API: keys, origins and the address."""

import pytest
from support.config_file import OPEN, error_of

from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError


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


def test_a_key_has_its_priority_and_its_weight(write):
    keys = 'keys.job = {key = "sk-job", priority = 10, weight = 0.5, allow_priority = true}\n'
    [key] = load_config(write(f"[api]\n{keys}"), environ={}).api_keys
    assert (key.priority, key.weight, key.allow_priority) == (10, 0.5, True)


@pytest.mark.parametrize("value", ["priority = 1001", "priority = 'high'", "weight = 0.0"])
def test_priorities_and_weights_have_bounds(write, value):
    with pytest.raises(ConfigError, match=r"api\.keys\.job\."):
        load_config(write(f"[api]\nkeys.job = {{key = 'sk-job', {value}}}\n"), environ={})
