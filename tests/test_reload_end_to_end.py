"""Zero configuration and reloads of a real node: nothing is restarted, no stream is dropped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
api_key = "sk-first"
{api}
[server]
workers = 2
[server.discovery]
search = ["models"]
{discovery}
[engine]
kernels = "ops"
"""


class Home:
    """A node without a table of models, and its files."""

    def __init__(self, folder: Path, node: NodeProcess, env: dict[str, str]):
        self.folder = folder
        self._env = env
        self.node = node
        self.models = folder / "models"

    def write(self, api: str = "", discovery: str = "") -> None:
        new = self.folder / "config.new"
        new.write_text(CONFIG.format(api=api, discovery=discovery))
        new.chmod(0o600)
        new.replace(self.folder / "config.toml")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command for this node."""
        address = self.node.url.removeprefix("http://")
        arguments = [sys.executable, "-m", "mlxnode", *command, "--address", address]
        return subprocess.run(
            arguments, capture_output=True, text=True, timeout=60, env=self._env
        )

    def reload(self) -> subprocess.CompletedProcess[str]:
        return self.run("reload")

    def changes(self) -> list[str]:
        result = self.reload()
        assert result.returncode == 0, result.stderr
        # The watch of the files may have been faster than the command.
        return [line.removeprefix("already read: ") for line in result.stdout.splitlines()]

    def chat(self, model: str, key: str = "sk-first") -> httpx.Response:
        body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]}
        return httpx.post(
            f"{self.node.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
        )

    def ids(self) -> list[str]:
        headers = {"authorization": "Bearer sk-first"}
        answer = httpx.get(f"{self.node.url}/v1/models", headers=headers, timeout=60)
        return [model["id"] for model in answer.json()["data"]]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    tiny.make_chat_model(folder / "models/Chat-One", context=4096)
    tiny.make_embedding_model(folder / "models/Embed")
    (folder / "models/broken").mkdir()
    (folder / "models/broken/config.json").write_text("{")
    hidden = {"HF_HUB_CACHE": str(folder / "hub"), "HOME": str(folder)}
    env = os.environ | hidden
    config = CONFIG.format(api="", discovery="")
    with NodeProcess(folder, config, start_new_session=True, env=env) as node:
        node.wait_ready()
        yield Home(folder, node, env)


@pytest.fixture(autouse=True)
def same_processes(home):
    """No test restarts a process."""
    home.write()
    home.changes()
    before = home.node.child_pids()
    yield
    assert set(home.node.worker_pids()) | {home.node.engine_pid()} <= set(before)


def test_node_serves_the_models_that_it_finds_by_id_and_alias(home):
    assert home.ids() == ["Chat-One", "Embed"]
    assert home.chat("Chat-One").json()["model"] == "Chat-One"
    assert home.chat("chat-one").json()["model"] == "Chat-One"
    assert home.chat("broken").status_code == 404


def test_reload_brings_models_and_removes_them(home):
    shutil.copytree(home.models / "Chat-One", home.models / "Chat-Two")
    assert home.changes() == ["new models: Chat-Two", "new aliases: chat-two"]
    for _ in range(6):  # every worker knows it, and so does the engine
        assert home.chat("Chat-Two").status_code == 200
    assert home.ids() == ["Chat-One", "Chat-Two", "Embed"]
    shutil.rmtree(home.models / "Chat-Two")
    assert home.changes() == [
        "models that are gone: Chat-Two",
        "aliases that are gone: chat-two",
    ]
    for _ in range(6):
        assert home.chat("chat-two").status_code == 404


def test_reload_brings_keys_aliases_and_origins(home):
    origins = "cors_enabled = true\ncors_origins = ['http://page']"
    home.write(
        f"{origins}\n[api.keys.b]\nkey = 'sk-b'\nmodels = ['mine']", "aliases.mine = 'Chat-One'"
    )
    text = "\n".join(home.changes())
    assert "new keys: b" in text and "new aliases: mine" in text
    assert "origins of web pages: http://page" in text
    for _ in range(6):
        assert home.chat("mine", "sk-b").json()["model"] == "Chat-One"
        answer = httpx.get(f"{home.node.url}/health", headers={"origin": "http://page"})
        assert answer.headers["access-control-allow-origin"] == "http://page"
    home.write()
    home.changes()
    assert home.chat("Chat-One", "sk-b").status_code == 401


def test_a_wrong_file_changes_nothing_and_says_why(home):
    home.write("max_requests = 1")
    result = home.reload()
    assert result.returncode == 2 and "api.max_requests: unknown key" in result.stderr
    assert home.chat("Chat-One").status_code == 200


def test_what_waits_for_the_next_start_is_told(home):
    file = home.folder / "config.toml"
    file.write_text(file.read_text().replace("workers = 2", "workers = 3"))
    assert home.changes() == ["at the next start: server.workers"]


def test_no_stream_is_dropped_by_reloads(home):
    body = {
        "model": "Chat-One",
        "max_tokens": 1500,
        "ignore_eos": True,
        "stream": True,
        "messages": [{"role": "user", "content": "a"}],
    }
    headers = {"authorization": "Bearer sk-first"}
    url = f"{home.node.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        next(lines)
        shutil.copytree(home.models / "Embed", home.models / "More")
        assert "new models: More" in home.changes()[0]
        home.write("max_requests_per_minute = 1000")
        assert home.changes() == ["other rate limits"]
        shutil.rmtree(home.models / "More")
        assert home.changes()[0] == "models that are gone: More"
        rest = list(lines)
    assert rest[-1] == "data: [DONE]"
    reasons = [json.loads(line[6:])["choices"] for line in rest[:-1]]
    assert [c[0]["finish_reason"] for c in reasons if c][-1] == "length"


def test_hangup_without_a_terminal_reads_the_configuration_and_the_disk(home):
    shutil.copytree(home.models / "Embed", home.models / "By-Signal")
    os.kill(home.node.process.pid, signal.SIGHUP)
    paused = threading.Event()
    assert any("By-Signal" in home.ids() or paused.wait(0.1) for _ in range(200))
    shutil.rmtree(home.models / "By-Signal")


def test_fits_are_told_in_the_background(home):
    paused = threading.Event()

    def fits() -> dict[str, str]:
        return json.loads(home.run("status", "--json").stdout)["fits"]

    assert any(
        {"Chat-One": "yes", "Embed": "yes"}.items() <= fits().items() or paused.wait(0.2)
        for _ in range(100)
    )


def test_reload_of_no_node_says_so():
    command = [sys.executable, "-m", "mlxnode", "reload", "--address", "127.0.0.1:1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "no node answers on port 1" in result.stderr
