"""One limit over many workers: a whole node on a tiny model."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

NUM_WORKERS = 8
CONNECTIONS = 8  # to each worker
LIMIT = 12  # requests a minute
PROMPT, MAX_TOKENS = "abc", 5  # a token a byte
CONFIG = f"""
[api]
address = "127.0.0.1:0"
[api.keys.requests]
key = "sk-requests"
max_requests_per_minute = {LIMIT}
[api.keys.tokens]
key = "sk-tokens"
max_tokens_per_minute = {LIMIT * (len(PROMPT) + MAX_TOKENS)}
[api.keys.model]
key = "sk-model"
[api.models.tiny]
path = "model"
type = "completion"
[api.models.limited]
path = "model"
type = "completion"
max_requests_per_minute = {LIMIT}
[server]
workers = {NUM_WORKERS}
"""


class Client:
    """A connection that is kept, and so stays with its worker."""

    def __init__(self, url: str):
        self._socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        self._socket.settimeout(60)

    def send(self, key: str = "", body: dict | None = None) -> None:
        content = json.dumps(body or {}).encode()
        method, path = ("POST", "/v1/completions") if body else ("GET", "/health")
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + content)

    def receive(self) -> tuple[http.client.HTTPResponse, dict]:
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        return response, json.loads(response.read())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Iterator[list[Client]]:
    """Connections to every worker, as many to each."""
    folder = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "model")
    with NodeProcess(folder, CONFIG) as node:
        node.wait_ready()
        pids = node.worker_pids()
        assert len(pids) == NUM_WORKERS
        clients = []
        for pid in pids:  # a worker accepts what comes while the others are stopped
            others = [other for other in pids if other != pid]
            for other in others:
                os.kill(other, signal.SIGSTOP)
            for _ in range(CONNECTIONS):
                clients.append(Client(node.url))
                clients[-1].send()
                assert clients[-1].receive()[0].status == 200
            for other in others:
                os.kill(other, signal.SIGCONT)
        yield clients
        for client in clients:
            client.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "model", "kind"),
    [
        ("sk-requests", "tiny", "requests"),
        ("sk-tokens", "tiny", "tokens"),
        ("sk-model", "limited", "requests"),
    ],
)
def test_racing_requests_are_admitted_up_to_the_limit(clients, key, model, kind):
    body = {"model": model, "prompt": PROMPT, "max_tokens": MAX_TOKENS, "temperature": 0}
    started = time.monotonic()
    for client in clients:
        client.send(key, body)
    answers = [client.receive() for client in clients]
    refilled = int((time.monotonic() - started) * LIMIT / 60)
    admitted = [answer for response, answer in answers if response.status == 200]
    refused = [(response, answer) for response, answer in answers if response.status == 429]
    assert len(admitted) + len(refused) == NUM_WORKERS * CONNECTIONS
    assert LIMIT <= len(admitted) <= LIMIT + refilled
    # All was used that was reserved, so that nothing came back meanwhile.
    assert {answer["usage"]["total_tokens"] for answer in admitted} == {
        len(PROMPT) + MAX_TOKENS
    }
    for response, answer in refused:
        assert (answer["error"]["type"], answer["error"]["code"]) == (
            kind,
            "rate_limit_exceeded",
        )
        assert 1 <= int(response.headers["retry-after"]) <= 60 / LIMIT
        assert int(response.headers[f"x-ratelimit-remaining-{kind}"]) < len(PROMPT) + MAX_TOKENS
