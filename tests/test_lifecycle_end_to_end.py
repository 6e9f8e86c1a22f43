"""Models that a real node loads and unloads by itself, seen by HTTP clients."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import openai
import pytest
from support import tiny
from support.node_process import NodeProcess

from mlxnode.process.status_socket import read_status

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.first]
path = "{root}/first"
type = "chat"
preload = false
idle_unload = 2.0
[api.models.second]
path = "{root}/second"
type = "chat"
preload = false
[api.models.fixed]
path = "{root}/vectors"
type = "embedding"
pin = true
[server]
workers = 1
keep_alive_after = 0
[engine]
kernels = "ops"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[NodeProcess]:
    root: Path = tmp_path_factory.mktemp("node")
    for seed, name in enumerate(("first", "second")):
        tiny.make_chat_model(root / name, context=4096, seed=seed)
    tiny.make_embedding_model(root / "vectors")
    with NodeProcess(root, CONFIG.format(root=root)) as node:
        node.wait_ready()
        yield node


@pytest.fixture
def client(node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", timeout=60) as client:
        yield client


def figures(node: NodeProcess) -> dict[str, dict]:
    """The figures of the models by id, as ``mlxnode status --json`` has them.

    There are none of an engine that has ended.
    """
    found = read_status(int(node.url.rpartition(":")[2]))
    pids = [one.pid for one in found.processes if one.name == "engine"]
    if found.engine is None or pids != [node.engine_pid()]:
        return {}
    return {model["id"]: model for model in msgspec.to_builtins(found.engine.models)}


def wait_for_state(node: NodeProcess, model: str, state: str) -> dict[str, dict]:
    """The figures, once they say that; of what came after, they may not tell for a second."""
    paused = threading.Event()
    for _ in range(300):
        found = figures(node)
        if found and found[model]["state"] == state:
            return found
        paused.wait(0.1)
    raise AssertionError(found)


def chat(client: openai.OpenAI, model: str, max_tokens: int = 5, **fields):
    messages = [{"role": "user", "content": "hi"}]
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=max_tokens, **fields
    )


@pytest.mark.long
def test_node_loads_models_for_requests_and_unloads_idle_ones(node, client):
    found = wait_for_state(node, "fixed", "loaded")
    assert [found[id]["state"] for id in ("first", "second")] == ["unloaded", "unloaded"]
    assert found["fixed"]["is_pinned"] and found["first"]["weight_bytes"] == 0
    assert chat(client, "first").usage.completion_tokens > 0
    found = wait_for_state(node, "first", "loaded")
    assert found["first"]["weight_bytes"] > 100_000
    assert len(client.embeddings.create(model="fixed", input="hi").data) == 1
    found = wait_for_state(node, "first", "unloaded")  # it has been idle
    assert found["first"]["work"]["generated_tokens"] > 0
    assert found["fixed"]["state"] == "loaded"
    assert chat(client, "first").usage.completion_tokens > 0
    assert wait_for_state(node, "first", "loaded")["first"]["num_loads"] == 2


def test_stream_of_one_model_goes_on_while_another_is_loaded(node, client):
    stream = chat(client, "first", 2000, stream=True, extra_body={"ignore_eos": True})
    for _ in range(3):
        next(stream)
    answer = chat(client, "second")
    assert answer.usage.completion_tokens > 0
    next(stream)
    stream.close()


def test_models_are_loaded_again_after_the_engine_has_died(node, client):
    chat(client, "second")
    killed = node.engine_pid()
    os.kill(killed, signal.SIGKILL)
    node.wait_for_log(rf"(?s)engine started \(pid {killed}\).*engine started")
    found = wait_for_state(node, "fixed", "loaded")
    assert found["second"]["num_loads"] <= 1
    assert chat(client, "second").usage.completion_tokens > 0
