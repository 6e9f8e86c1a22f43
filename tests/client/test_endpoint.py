"""Where a node answers, and which key goes there."""

import pytest
from support.certificates import make_pair

from mlxnode.client.endpoint import Endpoint, endpoint_of_config, endpoint_of_url
from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError

OWN = {"MLXNODE_API_KEY": "sk-of-the-environment"}


def load(folder, api: str, environ=None):
    file = folder / "config.toml"
    model = '[api.models.m]\npath = "/m"\ntype = "chat"\n'
    file.write_text(f"[api]\n{api}\n{model}")
    file.chmod(0o600)
    return load_config(file, environ=environ or {})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (" https://mini.local/v1/ ", "https://mini.local"),
        ("http://proxy/path/v1", "http://proxy/path"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
    ],
)
def test_endpoint_of_url_is_the_address_without_v1(url, base):
    assert endpoint_of_url(url, None, {}) == Endpoint(base, None, is_named=True)


@pytest.mark.parametrize(
    "url",
    ["", "mini.local:8080", "ftp://a", "http://", "http://a:b", "http://u:p@a", "http://a?b"],
)
def test_endpoint_of_what_is_no_url_is_refused_by_name(url):
    with pytest.raises(ConfigError, match="--url"):
        endpoint_of_url(url, None, {})


def test_keys_of_the_configuration_go_to_no_url(tmp_path):
    assert endpoint_of_url("http://a", "sk-own", OWN).key == "sk-own"
    assert endpoint_of_url("http://a", None, OWN).key == "sk-of-the-environment"


def test_endpoint_of_a_configuration_has_an_address_to_connect_to_and_its_key(tmp_path):
    loaded = load(tmp_path, 'address = "0.0.0.0:8123"\napi_key = "sk-0123456789abcdef"')
    found = endpoint_of_config(loaded, {})
    assert found == Endpoint("http://127.0.0.1:8123", "sk-0123456789abcdef")
    assert endpoint_of_config(loaded, OWN).key == "sk-of-the-environment"
    assert endpoint_of_config(loaded, OWN, key="sk-given").key == "sk-given"


def test_key_of_the_configuration_goes_to_no_other_machine(tmp_path):
    loaded = load(tmp_path, 'api_key = "sk-0123456789abcdef"')
    assert endpoint_of_config(loaded, {}, address="127.0.0.1:9").key == "sk-0123456789abcdef"
    other = endpoint_of_config(loaded, {}, address="192.0.2.1:9")
    assert other == Endpoint("http://192.0.2.1:9", None, is_named=True)


def test_key_for_every_model_comes_before_a_key_for_some(tmp_path):
    some = '[api.keys.some]\nkey = "sk-some"\nmodels = ["m"]\n'
    every = '[api.keys.every]\nkey = "sk-every"\n'
    loaded = load(tmp_path, some + every)
    assert endpoint_of_config(loaded, {}).key == "sk-every"


def test_key_that_is_known_by_its_digest_is_none(tmp_path):
    loaded = load(tmp_path, f'[api.keys.a]\nsha256 = "{"ab" * 32}"')
    assert endpoint_of_config(loaded, {}).key is None


def test_endpoint_with_tls_trusts_the_configured_certificate(tmp_path):
    pair = make_pair(tmp_path)
    tls = f'tls_certificate = "{pair.certificate.name}"\ntls_key = "{pair.key.name}"'
    found = endpoint_of_config(load(tmp_path, f'{tls}\napi_key = "sk-0123456789"'), {})
    assert found.url.startswith("https://") and found.certificate == pair.certificate
    assert found.verification().cert_store_stats()["x509"] == 1
    pair.certificate.write_text("nothing")
    with pytest.raises(ConfigError, match="tls_certificate"):
        found.verification()
