"""``mlxnode status`` of a real node."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.mine]
path = "{path}"
type = "chat"
[server]
workers = 1
[engine]
kernels = "ops"
"""


def status(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mlxnode", "status", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def wait_for(address: str, condition) -> dict:
    """The figures, once they fulfil the condition."""
    paused = threading.Event()
    for _ in range(100):
        result = status("--address", address, "--json")
        assert result.returncode == 0, result.stderr
        if condition(figures := json.loads(result.stdout)):
            return figures
        paused.wait(0.2)
    raise AssertionError(figures)


@pytest.mark.long
def test_status_shows_a_running_node_and_its_restarts(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    model = tiny.make_chat_model(tmp_path / "model")
    with NodeProcess(tmp_path, CONFIG.format(path=model)) as node:
        node.wait_ready()
        address = node.url.removeprefix("http://")
        figures = wait_for(address, lambda figures: figures["engine"] is not None)
        assert figures["address"] == address
        assert figures["pid"] == node.process.pid
        assert [one["name"] for one in figures["processes"]] == ["engine", "worker 0"]
        assert [one["id"] for one in figures["engine"]["models"]] == ["mine"]
        text = status("--address", address).stdout
        assert text.startswith("mlxnode ") and address in text and "KV caches" in text
        os.kill(node.engine_pid(), signal.SIGKILL)
        wait_for(
            address,
            lambda figures: figures["processes"][0]["starts"] == 2 and figures["engine"],
        )
    assert not list((tmp_path / "cache" / "run").iterdir())
    result = status("--address", address)
    assert result.returncode == 1
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith("mlxnode: no node answers on port")
