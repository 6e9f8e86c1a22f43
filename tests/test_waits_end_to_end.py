"""Long prompts, clients that leave, and limits that fit them: a whole node on a tiny model."""

import concurrent.futures
import contextlib
import json
import os
import random
import socket
import threading
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from support import tiny
from support.node_process import NodeProcess

from mlxnode.figures import EngineFigures, RunnerFigures
from mlxnode.process.status_socket import read_status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "sk-waits"
CONTEXT = 131_072
SILENCE = 1.0  # seconds that a client waits before it leaves
CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
max_tokens_per_minute = 100000
[api.keys.free]
key = "sk-free"
max_tokens_per_minute = 100000000
[api.models.tiny]
path = "model"
type = "chat"
context_length = {CONTEXT}
[server]
workers = 2
keep_alive_after = 0.2
[engine]
prefill_stall_ms = 1
kernels = "ops"
"""
END_AT_ONCE = {"logit_bias": {str(tiny.EOS_ID): 100}, "temperature": 0}


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "model", context=CONTEXT)
    with NodeProcess(folder, CONFIG) as process:
        process.wait_ready()
        yield process


def ask(node, content: str, key: str = "sk-free", **options) -> httpx.Response:
    return httpx.post(
        f"{node.url}/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": content}], **options},
        headers={"authorization": f"Bearer {key}"},
        timeout=120,
    )


def start(node, content: str, **options) -> socket.socket:
    """Send a request over a bare socket."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **options}
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-free\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    port = int(node.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(head.encode() + data)
    return connection


def wait_until_idle(node) -> EngineFigures:
    """The figures of the engine, once no request runs or waits.

    The engine tells them once a second: those from now on count the prompt of one more request.
    """
    paused, port = threading.Event(), int(node.url.rpartition(":")[2])
    known = read_status(port).engine
    num_tokens = known.models[0].work.prompt_tokens if known else 0
    assert ask(node, "short", **END_AT_ONCE).status_code == 200
    for _ in range(300):
        engine = read_status(port).engine
        work = engine.models[0].work if engine else RunnerFigures()
        if work.prompt_tokens > num_tokens and work.num_running + work.num_waiting == 0:
            return engine
        paused.wait(0.1)
    raise AssertionError(engine)


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_in_prefill_frees_the_engine_and_keeps_the_part(node, stream):
    # Without a stream, a client is known to have left a second after its last byte.
    prompt = f"{stream} " + "word " * 4800
    with start(node, prompt, stream=stream, max_tokens=5) as connection:
        connection.settimeout(SILENCE)
        data = b""
        with pytest.raises(TimeoutError):
            while True:
                data += connection.recv(65536)
    # The head of a stream came without a token, and nothing at all without a stream.
    assert (b'"role":"assistant"' in data) == stream and b'"content":"' not in data[-40:]
    wait_until_idle(node)
    usage = ask(node, prompt, **END_AT_ONCE).json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert 16 <= cached < usage["prompt_tokens"]


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 32_000}, {"max_tokens": 10**6}])
def test_requests_without_a_tight_limit_are_served_several_at_once(node, limit):
    """The shipped limit is below the context of the model, and below ten times 32,000."""
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda n: ask(node, f"{n}", KEY, **limit, **END_AT_ONCE), range(10))
        )
    assert [answer.status_code for answer in answers] == [200] * 10
    told = {answer.headers.get("x-mlxnode-max-tokens") for answer in answers}
    assert (told == {None}) == (limit.get("max_tokens", 0) < CONTEXT)


def test_a_prompt_above_the_limit_is_refused_for_good(node):
    answer = ask(node, "x" * 100_001, KEY, **END_AT_ONCE)
    assert answer.status_code == 400 and "retry-after" not in answer.headers
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit_too_low")
    assert "100000" in error["message"]
    assert ask(node, "x", KEY, **END_AT_ONCE).status_code == 200


def leave_at_random(node, seed: int) -> None:
    """Read a random number of bytes of a stream, and for a random time, then leave."""
    chosen = random.Random(seed)
    prompt = f"{seed} " + "word " * chosen.choice([1, 50, 300])
    is_stream = chosen.random() < 0.8
    with start(node, prompt, stream=is_stream, max_tokens=300) as connection:
        remaining = chosen.choice([0, 0, 100, 2000, 10**9])
        connection.settimeout(chosen.choice([0.01, 0.1, 0.5, 30]))
        try:
            while remaining > 0 and (data := connection.recv(min(remaining, 65536))):
                remaining -= len(data)
                if data.endswith(b"0\r\n\r\n") or not is_stream:
                    break
        except TimeoutError:
            return


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="sockets are read from Linux")
def test_clients_that_leave_at_random_leave_nothing_behind(node):
    workers = node.worker_pids()
    wait_until_idle(node)
    before = [num_sockets(pid) for pid in workers]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for seeds in (range(20), range(100, 120)):
            list(pool.map(lambda seed: leave_at_random(node, seed), seeds))
    engine = wait_until_idle(node)
    work = engine.models[0].work
    # All that is claimed belongs to cached prefixes, and a layer of one to copy.
    assert engine.memory.kv_claimed <= 2 * work.prefix_bytes
    paused = threading.Event()
    for _ in range(100):
        if [num_sockets(pid) for pid in workers] == before:
            break
        paused.wait(0.1)
    assert [num_sockets(pid) for pid in workers] == before


def num_sockets(pid: int) -> int:
    """The open connections of a process, as Linux lists them."""
    folder, count = f"/proc/{pid}/fd", 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(f"{folder}/{name}").startswith("socket:")
    return count
