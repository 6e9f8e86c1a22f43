"""``mlxnode embed`` and ``bench`` as commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny
from support.fake_api import FakeApi

pytestmark = pytest.mark.slow

MODELS = [{"id": "vectors", "type": "embedding"}]


@pytest.fixture
def api():
    with FakeApi(models=MODELS) as server:
        yield server


def run(*arguments: str, said: bytes = b"", folder: Path | None = None):
    command = [sys.executable, "-P", "-m", "mlxnode", *arguments]
    return subprocess.run(command, input=said, capture_output=True, cwd=folder, timeout=300)


def test_embed_prints_a_line_for_each_text(api):
    lines = "".join("x" * (i % 7 + 1) + "\n\n" for i in range(150)).encode()
    found = run("embed", "vectors", "--url", api.url, "--dimensions", "2", said=lines)
    vectors = [json.loads(line) for line in found.stdout.splitlines()]
    assert vectors == [[float(i % 7 + 1), 1.0] for i in range(150)]
    assert [len(body["input"]) for body in api.bodies] == [64, 64, 22]
    assert api.bodies[0]["dimensions"] == 2


def test_embed_prints_one_document_or_similarities(api):
    found = run("embed", "vectors", "a", "bcd", "--url", api.url, "--json")
    document = json.loads(found.stdout)
    assert document["dimensions"] == 2 and document["num_tokens"] == 2
    assert document["data"][1] == {"text": "bcd", "embedding": [3.0, 1.0]}
    found = run("embed", "vectors", "a", "bcd", "--url", api.url, "--similarity")
    assert found.stdout.decode().split() == [
        *("#", "TEXT", "1", "2"),
        *("1", "a", "1.000", "0.894"),
        *("2", "bcd", "0.894", "1.000"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["vectors"], 2, "there is no TEXT, and standard input is empty"),
        (["vectors", "a", "--dimensions", "0"], 2, "0 is not in the range"),
        (["nope", "a"], 1, "the node has no model nope; it has vectors"),
    ],
)
def test_embed_says_what_is_wrong(api, arguments, code, text):
    found = run("embed", *arguments, "--url", api.url)
    assert (found.returncode, found.stdout) == (code, b"") and text in found.stderr.decode()


def test_bench_compares_a_node_of_its_own_with_another_server(tmp_path):
    (tmp_path / "tiny").mkdir()
    tiny.make_chat_model(tmp_path / "tiny")
    (tmp_path / "config.toml").write_text(
        '[api]\naddress = "127.0.0.1:9"\nrequire_auth = false\n'
        '[api.models.mine]\npath = "tiny"\ntype = "chat"\n'
    )
    load = ["--clients", "1,2", "--rounds", "1", "--max-tokens", "8", "--prompt-words", "20"]
    with FakeApi() as other:
        found = run("bench", *load, "--url", other.url, "--json", folder=tmp_path)
    document = json.loads(found.stdout)
    assert document["models"] == {"chat": {"mlxnode": "mine", other.url: "fake"}}
    tokens = [f for f in document["figures"] if f["name"] == "tokens/s"]
    assert [(f["server"], f["num_clients"]) for f in tokens] == [
        (server, count) for count in (1, 2) for server in ("mlxnode", other.url)
    ]
    assert all(figure["value"] > 0 for figure in document["figures"])
    assert document["memory_bandwidth"] > 1e8 and document["bandwidth_share"]["mlxnode"] > 0
    assert "mlx" in document["machine"]["packages"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--clients", "1,x"], 2, "expected numbers from 1 to 1024, as 1,4,16, got '1,x'"),
        (["--rounds", "0"], 2, "0 is not in the range"),
        (["--address", "127.0.0.1:9"], 1, "no node answers at http://127.0.0.1:9"),
    ],
)
def test_bench_says_what_is_wrong(arguments, code, text, tmp_path):
    found = run("bench", *arguments, folder=tmp_path)
    assert (found.returncode, found.stdout) == (code, b"") and text in found.stderr.decode()
