"""Commands beside a node that runs: the request to try, the live status, the models."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tiny
from support.certificates import make_pair
from support.node_process import NodeProcess
from support.pseudo_terminal import Terminal

pytestmark = pytest.mark.slow

MLXNODE = [sys.executable, "-m", "mlxnode"]
SECRET = "sk-a-very-secret-key"


def config_of(model: Path, api: str) -> str:
    return (
        f'[api]\naddress = "127.0.0.1:0"\n{api}\n'
        f'[api.models.mine]\npath = "{model}"\ntype = "chat"\n[server]\nworkers = 1\n'
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def node(tmp_path_factory, model) -> Iterator[NodeProcess]:
    """A node with a secret key in a file whose path has a space."""
    folder = tmp_path_factory.mktemp("node") / "my node"
    folder.mkdir()
    with NodeProcess(folder, config_of(model, f'api_key = "{SECRET}"')) as started:
        started.wait_ready()
        yield started


def line_to_paste(node: NodeProcess) -> str:
    """The line below "Try it:", once it is there."""
    text = "".join(node.log)
    found = re.search(r"Try it.*:\n  (curl .*)\n", text)
    assert found, text
    return found[1]


def paste(line: str, shell: str = "sh") -> dict:
    """The answer to the line, typed into a shell in another folder, without a variable set."""
    own = {
        k: v for k, v in os.environ.items() if k not in ("MLXNODE_API_KEY", "MLXNODE_CONFIG")
    }
    ended = subprocess.run(
        [shell, "-c", line.replace("curl ", "curl -sS ", 1)],
        capture_output=True,
        text=True,
        env=own,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def address_of(node: NodeProcess) -> list[str]:
    return ["--address", node.url.rpartition("/")[2]]


def test_line_of_the_ready_text_works_as_pasted(node):
    line = line_to_paste(node)
    assert "chat.completion" in paste(line)["object"]
    assert SECRET not in "".join(node.log)


def test_line_of_a_node_with_a_certificate_works_as_pasted(tmp_path, model):
    make_pair(tmp_path, names="DNS:mini.example.com")
    api = 'tls_certificate = "node.pem"\ntls_key = "node.key"\napi_key = "sk-tls"'
    with NodeProcess(tmp_path, config_of(model, api)) as node:
        node.wait_ready()
        assert paste(line_to_paste(node))["object"] == "chat.completion"


def test_status_is_live_in_a_terminal_until_q(node):
    with Terminal([*MLXNODE, "status", *address_of(node)]) as terminal:
        terminal.wait_for(r"mine +loaded")
        for text in ("tokens/s", "first token", "memory", "KV caches", "engine", "q ends"):
            assert text in terminal.text
        # The first look is drawn, then a second one: it is live.
        first = terminal.text.count("q ends")
        terminal.wait_for("q ends", start=len(terminal.text))
        assert terminal.text.count("q ends") > first
        terminal.type("q")
        assert terminal.wait_end() == 0
        assert terminal.settings_now() == terminal.settings


def test_status_shows_the_requests_of_a_key(node):
    paste(line_to_paste(node))
    with Terminal([*MLXNODE, "status", *address_of(node)]) as terminal:
        terminal.wait_for(r"KEY, LAST 60 S +REQUESTS")
        terminal.wait_for(r"[0-9a-f]{12} +[1-9]")
        terminal.wait_for(r"[0-9.]+ s median, [0-9.]+ s p95")
        terminal.type("\x03")
        assert terminal.wait_end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_status_that_is_ended_leaves_the_terminal_as_it_was(node, number):
    with Terminal([*MLXNODE, "status", *address_of(node)]) as terminal:
        terminal.wait_for("q ends")
        terminal.process.send_signal(number)
        assert terminal.wait_end() == 128 + number
        assert terminal.settings_now() == terminal.settings
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")  # the cursor


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_status_fits_the_width_of_the_terminal(node, columns):
    with Terminal([*MLXNODE, "status", *address_of(node)], columns=columns) as terminal:
        terminal.wait_for("q ends")
        terminal.type("q")
        assert terminal.wait_end() == 0
    assert max(map(len, terminal.text.splitlines())) <= columns


def test_status_goes_on_when_the_node_ends(tmp_path, model):
    with NodeProcess(tmp_path, config_of(model, "require_auth = false")) as node:
        node.wait_ready()
        with Terminal([*MLXNODE, "status", *address_of(node)]) as terminal:
            terminal.wait_for("q ends")
            node.process.send_signal(signal.SIGTERM)
            node.process.wait(60)
            terminal.wait_for(r"no node answers on port \d+.*; q ends")
            terminal.type("q")
            assert terminal.wait_end() == 0


def run(*arguments: str) -> str:
    command = [*MLXNODE, *arguments]
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=60
    ).stdout


def test_status_of_a_pipe_is_printed_once(node):
    for options in ([], ["--once"]):
        text = run("status", *address_of(node), *options)
        assert "MEMORY" in text and "TRAFFIC" in text and "\x1b" not in text


def test_status_as_json_has_the_traffic(node):
    paste(line_to_paste(node))
    figures = json.loads(run("status", *address_of(node), "--json"))
    assert figures["engine"]["models"][0]["state"] == "loaded"
    assert figures["traffic"]["seconds"] == 60
    [row] = [row for row in figures["traffic"]["models"] if row["id"] == "mine"]
    assert row["requests"] >= 1 and row["completion_tokens"] >= 1
    assert figures["traffic"]["first_token_median"] > 0


def test_models_says_what_the_node_has_loaded(node, tmp_path, model):
    file = tmp_path / "config.toml"
    file.write_text(config_of(model, "require_auth = false"))
    listed = json.loads(run("models", "--config", str(file), *address_of(node), "--json"))
    assert listed["is_running"] is True
    assert listed["models"][0]["state"].startswith("loaded")
    text = run("models", "--config", str(file), *address_of(node))
    assert re.search(r"^mine .* loaded", text, re.MULTILINE)


def test_key_opens_the_node(node):
    file = Path(node.process.args[-1])
    assert run("key", "--config", str(file)) == f"{SECRET}\n"


def test_reload_tells_the_changes(node):
    file = Path(node.process.args[-1])
    before = file.read_text()
    file.write_text(before + '[api.keys.dora]\nkey = "sk-dora"\n')
    try:
        told = json.loads(run("reload", *address_of(node), "--json"))
        assert told == {"changes": ["new keys: dora"]} or told == {"changes": []}
        file.write_text("[api]\nadress = 1\n")
        ended = subprocess.run(
            [*MLXNODE, "reload", *address_of(node), "--json"], capture_output=True, text=True
        )
        assert ended.returncode == 2
        assert "did you mean address?" in json.loads(ended.stdout)["error"]
    finally:
        file.write_text(before)
