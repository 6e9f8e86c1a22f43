"""A worker that is told to drain: what runs may end, and what is cut is told so."""

import json
import socket
import time

import httpx2 as httpx
import openai
import pytest
from support.bare_requests import WAIT, chat, post

from mlxnode.messages.control import Drain, Ping, Pong
from mlxnode.messages.data import Embed, Generate


@pytest.mark.long
def test_drain_finishes_streams_and_refuses_the_rest(own_worker):
    engine = own_worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    idle = chat(own_worker, max_tokens=1)
    engine.update(engine.next(Generate).uid, [], "stop")
    assert b"keep-alive" in idle.recv(65536)
    stream = own_worker.client().completions.create(model="tiny-chat", prompt="x", stream=True)
    first = next(iter(stream))
    busy = chat(own_worker)
    uid = engine.next(Generate).uid
    engine.next(Generate)
    own_worker.send(Drain(WAIT))
    own_worker.send(Ping(1))
    own_worker.wait_for(Pong)  # the order has been taken
    assert idle.recv(4096) == b""  # closed, having nothing under way
    idle.close()
    engine.update(uid + 1, "!", "stop")
    assert b"connection: close" in busy.recv(65536).lower()
    busy.close()
    engine.update(uid, "def", "stop")
    text = first.choices[0].text + "".join(chunk.choices[0].text for chunk in stream)
    assert text == "abcdef"
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


def read_all(connection: socket.socket) -> bytes:
    """What the worker sends until it closes the connection; a reset is an error."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def check_503(answer: bytes) -> None:
    """The answer is OpenAI's envelope, and says when to come again."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), head
    assert b"retry-after: 2\r\n" in head + b"\r\n"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.long
def test_drain_that_cuts_answers_503_and_ends_within_seconds(own_worker):
    own_worker.engine.is_silent = True
    body = b'{"model": "tiny-embedding", "input": "a"}'
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with (
        chat(own_worker) as whole,
        chat(own_worker, stream=True) as not_begun,
        post(own_worker, "/v1/embeddings", model="tiny-embedding", input="a") as vectors,
        socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as no_body,
        socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as no_head,
    ):
        no_body.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        no_head.sendall(head)
        own_worker.engine.next(Embed)
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(0.1))
        for connection in (whole, not_begun, vectors, no_body, no_head):
            check_503(read_all(connection))
        own_worker.process.join(WAIT)
        assert own_worker.process.exitcode == 0


@pytest.mark.long
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_drain_that_cuts_a_stream_sends_an_error_event_first(own_worker, endpoint):
    engine = own_worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    client = own_worker.client()
    if endpoint == "chat":
        messages = [{"role": "user", "content": "hi"}]
        stream = client.chat.completions.create(
            model="tiny-chat", messages=messages, stream=True
        )
    else:
        stream = client.completions.create(model="tiny-chat", prompt="x", stream=True)
    next(iter(stream))
    own_worker.send(Drain(0.1))
    with pytest.raises(openai.APIError, match="shutting down") as caught:
        list(stream)
    assert caught.value.code == "server_is_overloaded"
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


@pytest.mark.long
def test_drain_does_not_wait_for_a_client_that_does_not_read(own_worker):
    engine = own_worker.engine
    engine.is_silent = True
    with chat(own_worker, stream=True, logprobs=True) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        uid = engine.next(Generate).uid
        for _ in range(200):  # far more than the buffers of the connection
            engine.update(uid, "x" * 500)
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(0.1))
        own_worker.process.join(WAIT)
        assert own_worker.process.exitcode == 0


def test_drain_answers_503_to_a_request_under_way(own_worker):
    with socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(WAIT))
        own_worker.send(Ping(2))
        own_worker.wait_for(Pong)
        connection.sendall(b"Host: x\r\n\r\n")
        answer = connection.recv(65536).lower()
        assert answer.startswith(b"http/1.1 503") and b"connection: close" in answer
        assert b"retry-after" in answer
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


def test_drain_with_a_delay_serves_on_while_health_says_that_the_node_ends(own_worker):
    health = httpx.Client(base_url=own_worker.url, timeout=WAIT)
    with health, own_worker.client() as client:
        assert health.get("/health").status_code == 200
        own_worker.send(Drain(WAIT, delay=1.5))
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        began = time.monotonic()
        with health.stream("GET", "/health") as answer:
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert answer.headers.get("connection", "keep-alive") == "keep-alive"
        with own_worker.client() as other:  # over a new connection
            assert client.models.list().data == other.models.list().data
        own_worker.process.join(WAIT)
        assert time.monotonic() - began > 1.0
    assert own_worker.process.exitcode == 0


def test_drain_while_loading_ends_the_worker(start_worker, served_models):
    with start_worker(served_models, {}, until=None) as worker:
        worker.send(Drain(WAIT))
        worker.process.join(WAIT)
        assert worker.process.exitcode == 0
