"""The usage of two keys in a real node, over its restart and its kill; its request log."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
[api]
address = "127.0.0.1:0"
admin_key = "sk-admin"
[api.keys.alice]
key = "sk-alice"
[api.keys.bob]
key = "sk-bob"
[api.models.tiny]
path = "model"
type = "chat"
[api.models.vectors]
path = "vectors"
type = "embedding"
[server]
workers = 2
usage_file = "state/usage.sqlite"
request_log = "json"
request_log_file = "requests.jsonl"
[engine]
kernels = "ops"
"""
MESSAGES = [{"role": "user", "content": "Hello"}]
NUM_REQUESTS = 200
PATHS = {
    "/v1/chat/completions": {"model": "tiny", "messages": MESSAGES, "max_tokens": 7},
    "/v1/messages": {"model": "tiny", "messages": MESSAGES, "max_tokens": 5},
    "/v1/responses": {"model": "tiny", "input": "Hello", "max_output_tokens": 16},
    "/v1/embeddings": {"model": "vectors", "input": ["a b", "c"]},
}
LEFT = PATHS["/v1/chat/completions"] | {"stream": True, "max_tokens": 300, "ignore_eos": True}


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny.make_chat_model(tmp_path / "model")
    tiny.make_embedding_model(tmp_path / "vectors")
    return tmp_path


def usage(folder: Path, *options: str) -> list[dict[str, Any]]:
    """What ``mlxnode usage`` says."""
    command = [sys.executable, "-m", "mlxnode", "usage", "--json", *options]
    result = subprocess.run(
        [*command, "--config", str(folder / "config.toml")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MLXNODE_STATE": str(folder / "state")},
    )
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return json.loads(result.stdout)


def sums(rows: list[dict[str, Any]]) -> Counter:
    """The sums by key and model, of whatever day."""
    found: Counter = Counter()
    for row in rows:
        for name in ("requests", "prompt_tokens", "cached_tokens", "completion_tokens"):
            found[row["key"], row["model"], name] += row[name]
    return +found


def of_admin(url: str, **query: str) -> list[dict[str, Any]]:
    """What the node tells an administrator."""
    headers = {"authorization": "Bearer sk-admin"}
    answer = httpx.get(f"{url}/admin/usage", params=query, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def wait_for(folder: Path, expected: Counter) -> None:
    paused = threading.Event()
    for _ in range(100):
        if sums(usage(folder)) == expected:
            return
        paused.wait(0.2)
    assert sums(usage(folder)) == expected


def told(path: str, key: str, answer: dict[str, Any]) -> Counter:
    """What the answer says of its tokens, in the form of ``sums``."""
    told, model = answer["usage"], PATHS[path]["model"]
    prompt = told.get("prompt_tokens", told.get("input_tokens"))
    details = told.get("prompt_tokens_details") or told.get("input_tokens_details") or {}
    cached = details.get("cached_tokens", 0)
    if path == "/v1/messages":  # Anthropic's input_tokens are those that are not cached
        cached = told["cache_read_input_tokens"]
        prompt += cached
    completion = told.get("completion_tokens", told.get("output_tokens", 0))
    return +Counter(
        {
            (key, model, "requests"): 1,
            (key, model, "prompt_tokens"): prompt,
            (key, model, "cached_tokens"): cached,
            (key, model, "completion_tokens"): completion,
        }
    )


async def ask_many(url: str, count: int) -> Counter:
    """Send ``count`` requests at once; returns what their answers say."""
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:

        async def ask(index: int) -> Counter:
            path = list(PATHS)[index % len(PATHS)]
            key = ("alice", "bob")[index // len(PATHS) % 2]
            headers = {"authorization": f"Bearer sk-{key}", "x-request-id": f"id-{index}"}
            answer = await client.post(path, json=PATHS[path], headers=headers)
            assert answer.status_code == 200, answer.text
            return told(path, key, answer.json())

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(index)) for index in range(count)]
    return sum((task.result() for task in tasks), Counter())


def leave_streams(url: str, count: int) -> None:
    """Leave streams after their first bytes, and others before."""
    for index in range(count):
        headers = {"authorization": "Bearer sk-bob", "x-request-id": f"left-{index}"}
        with (
            httpx.Client(base_url=url, headers=headers, timeout=300) as client,
            client.stream("POST", "/v1/chat/completions", json=LEFT) as answer,
        ):
            next(answer.iter_bytes())


def lines_of(folder: Path, count: int) -> list[dict[str, Any]]:
    """The lines of the request log, once there are ``count``."""
    paused = threading.Event()
    for _ in range(1000):
        lines = (folder / "requests.jsonl").read_text().split("\n")[:-1]
        if len(lines) >= count:
            break
        paused.wait(0.02)
    assert len(lines) == count
    return [json.loads(line) for line in lines]


@pytest.mark.long
def test_usage_of_two_keys_is_exact_and_outlives_restart_and_kill(folder):
    with NodeProcess(folder, CONFIG) as node:
        node.wait_ready(300)
        expected = asyncio.run(ask_many(node.url, NUM_REQUESTS))
        assert expected["alice", "tiny", "requests"] == NUM_REQUESTS * 3 // 8
        wait_for(folder, expected)
        leave_streams(node.url, 8)
        lines = lines_of(folder, NUM_REQUESTS + 8)
        ids = [f"id-{index}" for index in range(NUM_REQUESTS)]
        assert sorted(line["id"] for line in lines) == sorted(
            [*ids, *(f"left-{index}" for index in range(8))]
        )
        assert Counter(line["outcome"] for line in lines) == {"done": NUM_REQUESTS, "left": 8}
        expected = sums([line | {"requests": 1} for line in lines])
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(60) == 0
    assert sums(usage(folder)) == expected
    with NodeProcess(folder, CONFIG) as node:
        node.wait_ready(300)
        expected += asyncio.run(ask_many(node.url, 4))
        wait_for(folder, expected)
        assert of_admin(node.url) == usage(folder)
        [bob] = of_admin(node.url, key="bob", model="vectors", by="key")
        assert bob["requests"] == expected["bob", "vectors", "requests"]
        assert of_admin(node.url, to="2001-01-01") == []
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait()
    assert sums(usage(folder)) == expected
    [alice] = usage(folder, "--key", "alice", "--model", "vectors", "--by", "key")
    assert alice["requests"] == expected["alice", "vectors", "requests"]
    assert (folder / "state").stat().st_mode & 0o077 == 0
