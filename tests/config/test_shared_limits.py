"""``[server.shared_limits]``: what its URL may be, and that its password is told to nobody."""

import importlib.util

import pytest
from pydantic import ValidationError

from mlxnode.config.file import load_config
from mlxnode.config.several import SharedLimitsConfig
from mlxnode.config.shared_limits import check_shared_limits
from mlxnode.errors import ConfigError

URLS = ["redis://h", "redis://:pw@h:6379/0", "rediss://u:pw@h:6380", "unix:///run/redis.sock"]


@pytest.mark.parametrize("url", URLS)
def test_a_url_of_redis_is_accepted_and_hidden(url):
    settings = SharedLimitsConfig.model_validate({"redis": url})
    assert settings.redis is not None and settings.redis.get_secret_value() == url
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "url", ["h:6379", "http://h", "redis://", "unix://", "redis://h:x", ""]
)
def test_another_url_is_refused(url):
    with pytest.raises(ValidationError, match="expected redis://host:port/number"):
        SharedLimitsConfig.model_validate({"redis": url})


def test_an_error_names_the_key_without_the_password(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[server.shared_limits]\nredis = "redis://:sesame@h:port"\n')
    with pytest.raises(ConfigError, match=r"server\.shared_limits\.redis: expected") as told:
        load_config(file, environ={"MLXNODE_API_KEY": "sk-1"})
    assert "sesame" not in str(told.value)


def test_workers_get_no_url(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[server.shared_limits]\nredis = "redis://:sesame@h"\n')
    config = load_config(file, environ={"MLXNODE_API_KEY": "sk-1"}).config
    assert config.server.shared_limits.redis is not None
    assert config.without_secrets().server.shared_limits.redis is None


def test_a_missing_package_is_named(monkeypatch):
    settings = SharedLimitsConfig.model_validate({"redis": "redis://h"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mlxnode\[redis\]'"):
        check_shared_limits(settings, "config.toml")
    check_shared_limits(SharedLimitsConfig(), "config.toml")
