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
        # Two and three ranks can share its heads.
        tiny.make_chat_model(root / "model", hidden=48, heads=6, kv_heads=6, context=131072)
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


def answers(node: NodeProcess) -> list[dict]:
    """What a node answers to requests of several kinds; the last one finds a prefix."""
    system = {"role": "system", "content": "You count to " + "one hundred and " * 30}
    kinds = [
        {"max_tokens": 40},
        {"max_tokens": 30, "temperature": 1.0, "seed": 7, "top_p": 0.9},
        {"max_tokens": 20, "logprobs": True, "top_logprobs": 3},
        {"max_tokens": 60, "response_format": {"type": "json_object"}},
        {"max_tokens": 10, "n": 3, "temperature": 0.8, "seed": 1},
    ]
    found = []
    for i, kind in enumerate(kinds):
        messages = [system, {"role": "user", "content": f"Question {i}"}]
        body = {"model": "tiny", "messages": messages, "temperature": 0.0} | kind
        request = urllib.request.Request(
            f"{node.url}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        found.append({"choices": answer["choices"], "usage": answer["usage"]})
    return found


def without_logprobs(found: list[dict]) -> list[dict]:
    """Sums of two parts are rounded in another way: the last digits may differ."""
    texts = [[choice | {"logprobs": None} for choice in each["choices"]] for each in found]
    return [
        {"choices": text, "usage": e["usage"]} for text, e in zip(texts, found, strict=True)
    ]


def logprobs(found: list[dict]) -> list[float]:
    return [token["logprob"] for token in found[2]["choices"][0]["logprobs"]["content"]]


@pytest.mark.parametrize(
    ("size", "strategy"),
    [
        (2, "tensor"),
        pytest.param(3, "tensor", marks=pytest.mark.long),
        pytest.param(2, "none", marks=pytest.mark.long),
    ],
)
def test_ranks_answer_over_http_as_one_machine(tmp_path, size, strategy):
    started = start(tmp_path, size, f'strategy = "{strategy}"')
    try:
        with started.node as node:
            node.wait_ready()
            together = answers(node)
    finally:
        kill_all(started.where)
    alone = CONFIG.partition("[engine.distributed]")[0].format(root=tmp_path)
    with NodeProcess(tmp_path, alone) as node:
        node.wait_ready()
        expected = answers(node)
    assert without_logprobs(together) == without_logprobs(expected)
    assert logprobs(together) == pytest.approx(logprobs(expected), abs=1e-4)
    assert expected[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
