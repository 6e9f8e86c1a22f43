"""One engine of several ranks behind a real node: its health, its faults, its end."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import tiny
from support.node_process import NodeProcess
from support.ranks import (
    free_ports,
    kill_all,
    processes_of,
    session_pid,
    wait_until,
    write_hostfile,
)

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.tiny]
path = "{root}/model"
type = "chat"
[server]
workers = 1
keep_alive_after = 0
[engine]
kernels = "ops"
[engine.distributed]
hostfile = "hosts.json"
port = {port}
{more}
"""


def start(root: Path, size: int, more: str = "") -> SimpleNamespace:
    if not (root / "model").exists():
        tiny.make_chat_model(root / "model", context=131072, seed=1)
    write_hostfile(root, size)
    port = free_ports(size + 1)
    node = NodeProcess(root, CONFIG.format(root=root, port=port, more=more))
    return SimpleNamespace(node=node, where=f"127.0.0.1:{port}", size=size, port=port)


@pytest.fixture
def ranks(tmp_path, request) -> Iterator[SimpleNamespace]:
    started = start(tmp_path, getattr(request, "param", 2))
    try:
        with started.node:
            started.node.wait_ready()
            yield started
    finally:
        kill_all(started.where)


def health(node: NodeProcess) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"{node.url}/health", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def stream(node: NodeProcess):
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": 100_000,  # more than there is time for
        "stream": True,
    }
    request = urllib.request.Request(
        f"{node.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=60)


def is_well(node: NodeProcess) -> bool:
    status, body = health(node)
    return status == 200 and all(rank["state"] == "ready" for rank in body["ranks"])


@pytest.mark.parametrize("ranks", [3], indirect=True)
def test_a_node_tells_its_ranks_and_leaves_no_process_behind(ranks):
    status, body = health(ranks.node)
    assert status == 200
    assert [(r["rank"], r["host"], r["state"]) for r in body["ranks"]] == [
        (0, "127.0.0.1", "ready"),
        (1, "127.0.0.1", "ready"),
        (2, "127.0.0.1", "ready"),
    ]
    address = ranks.node.url.removeprefix("http://")
    command = [sys.executable, "-m", "mlxnode", "status", "--address", address]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "RANK" in text and text.count("127.0.0.1  ready") == 3
    assert len([a for _, a in processes_of(ranks.where) if " engine --of" in a]) >= 3
    ranks.node.process.send_signal(signal.SIGTERM)
    assert ranks.node.process.wait(20) == 0
    wait_until(lambda: not processes_of(ranks.where), 5, lambda: processes_of(ranks.where))


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGSTOP]
)
def test_a_lost_rank_ends_streams_with_an_error_and_all_ranks_start_again(ranks, number):
    node = ranks.node
    engine = node.engine_pid()
    victim = session_pid(ranks.where, 1)
    with stream(node) as answer:
        answer.readline()
        os.kill(victim, number)
        took = wait_until(lambda: health(node)[0] == 503, 5, lambda: health(node))
        _, body = health(node)
        assert body["error"]["message"]
        assert body["ranks"][1]["state"] != "ready"
        why = "closed" if number == signal.SIGKILL else "silent"
        assert why in body["ranks"][1]["reason"]
        assert took < 4
        rest = answer.read().decode()
    assert '"error"' in rest and "[DONE]" not in rest
    wait_until(lambda: is_well(node), 60, lambda: "".join(node.log))
    assert node.engine_pid() != engine
    wait_until(lambda: session_pid(ranks.where, 1) != victim, 1)
    with stream(node) as answer:  # nothing is suspected of the loss
        assert b'"error"' not in answer.readline()
    assert "suspect" not in "".join(node.log)


@pytest.mark.long
def test_ranks_end_when_rank_0_or_the_node_is_killed(ranks):
    launchers = {pid for pid, _ in processes_of(ranks.where)}
    os.kill(ranks.node.engine_pid(), signal.SIGKILL)
    wait_until(lambda: not launchers & {p for p, _ in processes_of(ranks.where)}, 10)
    wait_until(lambda: is_well(ranks.node), 60, lambda: "".join(ranks.node.log))
    ranks.node.process.kill()
    wait_until(lambda: not processes_of(ranks.where), 10, lambda: processes_of(ranks.where))


def engine_command(where: str, rank: int) -> list[str]:
    return [sys.executable, "-m", "mlxnode", "engine", "--of", where, "--rank", str(rank)]


def test_a_rank_started_by_hand_outlives_rank_0(tmp_path):
    started = start(tmp_path, 2, 'launch = false\nkey = "a shared key"')
    environment = os.environ | {"MLXNODE_ENGINE_KEY": "a shared key"}
    wrong = os.environ | {"MLXNODE_ENGINE_KEY": "another key"}
    try:
        with started.node as node:
            node.wait_for_log("waiting for rank 1")
            stranger = subprocess.run(
                engine_command(started.where, 1), env=wrong, capture_output=True, text=True
            )
            assert stranger.returncode == 1 and "another key" in stranger.stderr
            outside = subprocess.run(
                engine_command(started.where, 7),
                env=environment,
                capture_output=True,
                text=True,
            )
            assert outside.returncode == 1 and "there is no rank 7" in outside.stderr
            with subprocess.Popen(
                engine_command(started.where, 1), env=environment, stderr=subprocess.PIPE
            ) as rank:
                node.wait_ready()
                os.kill(node.engine_pid(), signal.SIGKILL)
                wait_until(lambda: health(node)[0] == 503, 10)
                wait_until(lambda: is_well(node), 60, lambda: "".join(node.log))
                assert rank.poll() is None
                rank.send_signal(signal.SIGTERM)
                assert rank.wait(10) == 128 + signal.SIGTERM
            wait_until(lambda: health(node)[0] == 503, 5)
    finally:
        kill_all(started.where)


def test_a_node_whose_ranks_do_not_come_says_which(tmp_path):
    started = start(tmp_path, 3, 'launch = false\nkey = "k"\nstart_timeout = 1.0')
    with started.node as node:
        assert node.process.wait(60) == 1
        node.wait_for_log(r"rank 1 \(127.0.0.1\), rank 2 \(127.0.0.1\) did not connect")
