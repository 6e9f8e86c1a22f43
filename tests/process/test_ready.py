"""The text of a node that is ready: its models, and the request to try."""

import shlex
from pathlib import Path

import pytest
from support.certificates import make_pair

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.config.keys import digest_of
from mlxnode.models.served import ServedModel
from mlxnode.process.ready import ready_text

URL = "http://127.0.0.1:8080"
MODEL = '[api.models.mine]\npath = "x"\ntype = "chat"\n'


def served(id: str = "mine", type: str = "chat", **changes) -> ServedModel:
    fields = {
        "id": id,
        "type": type,
        "folder": Path("/m"),
        "weights": Path("/m"),
        "architecture": "llama",
        "context_length": 512,
        "dimensions": None,
        "default_temperature": None,
        "size_bytes": 1,
        "created": 0,
    }
    return ServedModel(**(fields | changes))


def load(folder: Path, api: str, environ: dict[str, str] | None = None) -> LoadedConfig:
    file = folder / "my config.toml"
    file.write_text(f"[api]\n{api}\n{MODEL}")
    file.chmod(0o600)
    return load_config(file, environ=environ or {})


def command(text: str) -> str:
    return text.splitlines()[-1].strip()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("MLXNODE_API_KEY", raising=False)


def test_ready_without_keys_has_no_header(tmp_path):
    text = ready_text(URL, [served()], {}, load(tmp_path, "require_auth = false"))
    assert "Authorization" not in text
    assert shlex.split(command(text))[:2] == ["curl", f"{URL}/v1/chat/completions"]


def test_ready_asks_for_a_secret_key_and_prints_none(tmp_path):
    loaded = load(tmp_path, 'api_key = "sk-secret"')
    text = ready_text(URL, [served()], {}, loaded, "/a b/mlxnode")
    assert "sk-secret" not in text
    path = f"'{tmp_path}/my config.toml'"
    assert f'-H "Authorization: Bearer $(/a b/mlxnode key --config {path})"' in text


def test_ready_prints_the_key_of_the_example(tmp_path):
    text = ready_text(URL, [served()], {}, load(tmp_path, 'api_key = "sk-your-secret-key"'))
    assert '-H "Authorization: Bearer sk-your-secret-key"' in text


def test_ready_takes_a_key_of_the_environment_from_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_API_KEY", "sk-environment")
    loaded = load(tmp_path, "", {"MLXNODE_API_KEY": "sk-environment"})
    text = ready_text(URL, [served()], {}, loaded)
    assert '"Authorization: Bearer $MLXNODE_API_KEY"' in text and "sk-env" not in text


def test_ready_names_a_key_that_may_use_the_model(tmp_path):
    api = (
        '[api.keys.a]\nkey = "sk-a"\nmodels = ["other"]\n[api.keys.b]\nkey = "sk-b"\n'
        '[api.models.other]\npath = "y"\ntype = "chat"'
    )
    text = ready_text(URL, [served()], {}, load(tmp_path, api))
    assert "$(mlxnode key b --config" in text


def test_ready_with_digests_only_says_which_variable_to_set(tmp_path):
    digest = digest_of("sk-a").hex()
    text = ready_text(URL, [served()], {}, load(tmp_path, f'keys.a.sha256 = "{digest}"'))
    assert "with your key in $MLXNODE_API_KEY" in text
    assert '"Authorization: Bearer $MLXNODE_API_KEY"' in text


def test_ready_of_a_certificate_trusts_it_and_calls_its_name(tmp_path):
    make_pair(tmp_path, names="DNS:mini.example.com")
    files = 'tls_certificate = "node.pem"\ntls_key = "node.key"'
    loaded = load(tmp_path, f"require_auth = false\n{files}")
    text = ready_text("https://127.0.0.1:8080", [served()], {}, loaded)
    words = shlex.split(command(text))
    assert words[1:3] == ["--cacert", str(tmp_path / "node.pem")]
    assert words[3:5] == ["--connect-to", "mini.example.com:8080:127.0.0.1:8080"]
    assert words[5] == "https://mini.example.com:8080/v1/chat/completions"
    make_pair(tmp_path)
    loaded = load(tmp_path, f"require_auth = false\n{files}")
    text = ready_text("https://127.0.0.1:8080", [served()], {}, loaded)
    assert shlex.split(command(text))[3] == "https://127.0.0.1:8080/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("http://0.0.0.0:80", "http://127.0.0.1:80/v1/chat/completions"),
        ("http://[::]:80", "http://[::1]:80/v1/chat/completions"),
        ("http://192.168.0.2:80", "http://192.168.0.2:80/v1/chat/completions"),
    ],
)
def test_ready_gives_an_address_that_can_be_reached(tmp_path, url, reached):
    text = ready_text(url, [served()], {}, load(tmp_path, "require_auth = false"))
    assert shlex.split(command(text))[1] == reached


@pytest.mark.parametrize(
    ("type", "path"),
    [("embedding", "embeddings"), ("rerank", "rerank"), ("completion", "completions")],
)
def test_ready_has_a_request_for_each_type(tmp_path, type, path):
    loaded = load(tmp_path, "require_auth = false")
    text = ready_text(URL, [served("it's", type)], {}, loaded)
    words = shlex.split(command(text))
    assert words[1] == f"{URL}/v1/{path}" and '"model": "it\'s"' in words[-1]


def test_ready_tries_a_loaded_text_model_and_lists_some_of_many(tmp_path):
    models = [served(f"m{i}", preload=False) for i in range(20)]
    models += [served("e", "embedding"), served("loaded")]
    text = ready_text(URL, models, {"bad": "why"}, load(tmp_path, "require_auth = false"))
    assert '"model": "loaded"' in text and "  bad FAILED: why" in text
    lines = text.splitlines()
    assert lines[1:4] == [
        "  e (embedding, 512 tokens)",
        "  loaded (chat, 512 tokens)",
        "  m0 (chat, 512 tokens, loaded when asked for)",
    ]
    assert lines[10:13] == [
        "  m7 (chat, 512 tokens, loaded when asked for)",
        "  and 12 more: mlxnode models",
        "  bad FAILED: why",
    ]


def test_ready_is_short_whatever_is_configured(tmp_path):
    models = [served(f"m{i}") for i in range(47)]
    failed = {f"bad{i}": "why" for i in range(30)}
    lines = ready_text(URL, models, failed, load(tmp_path, "require_auth = false")).splitlines()
    assert len(lines) == 1 + 11 + 11 + 1 + 2
    assert "  and 37 more: mlxnode models" in lines and "  and 20 more: mlxnode models" in lines
    lines = ready_text(
        URL, models[:11], {}, load(tmp_path, "require_auth = false")
    ).splitlines()
    assert "  m10 (chat, 512 tokens)" in lines


@pytest.mark.parametrize(
    ("url", "page"),
    [
        (URL, f"{URL}/"),
        ("http://0.0.0.0:80", "http://localhost:80/"),
        ("http://[::]:80", "http://localhost:80/"),
        ("http://[::1]:80", "http://[::1]:80/"),
    ],
)
def test_ready_names_the_page(tmp_path, url, page):
    text = ready_text(url, [], {}, load(tmp_path, "require_auth = false"))
    assert f"In a browser: {page}" in text.splitlines()
    loaded = load(tmp_path, "require_auth = false\n[server]\npage = false")
    assert "browser" not in ready_text(url, [], {}, loaded)


def test_ready_names_the_page_by_the_name_of_the_certificate(tmp_path):
    make_pair(tmp_path, names="DNS:mini.example.com")
    files = 'tls_certificate = "node.pem"\ntls_key = "node.key"'
    loaded = load(tmp_path, f"require_auth = false\n{files}")
    text = ready_text("https://0.0.0.0:8080", [], {}, loaded)
    assert "In a browser: https://mini.example.com:8080/" in text.splitlines()


def test_ready_without_any_model_has_no_request(tmp_path):
    text = ready_text(URL, [], {"bad": "why"}, load(tmp_path, "require_auth = false"))
    assert "curl" not in text
