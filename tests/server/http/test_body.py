"""Requests that are wrong below the JSON, over bare sockets."""

import json
import socket
import time

import pytest
from support.contract import CHAT, CHATS, post

TIMEOUT = 0.5  # seconds, of the worker under test
POST = (
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\n"
)


@pytest.fixture(scope="module")
def strict_worker(start_worker, served_models):
    limits = {"request_timeout": TIMEOUT, "max_body_bytes": 100_000}
    with start_worker(served_models, {"require_auth": False}, limits) as worker:
        worker.connect_engine()
        yield worker


def exchange(worker, data: bytes) -> tuple[int, dict]:
    """Status and JSON body of the answer, read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    head, _, body = answer.rpartition(b"\r\n\r\n")
    for name in (b"x-request-id: ", b"openai-processing-ms: ", b"openai-version: "):
        assert name in head
    return int(head.rpartition(b"HTTP/1.1 ")[2][:3]), json.loads(body)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET v1/models HTTP/1.1\r\n\r\n", 400),
        (b"GET ;/v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nCookie: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (POST + b"Content-Length: abc\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Content-Length: 1\r\nExpect: miracles\r\n\r\n{", 417),
    ],
)
def test_malformed_requests_get_the_envelope(strict_worker, data, status):
    got, body = exchange(strict_worker, data)
    assert got == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "data", [b"GET /health HTTP/1.1\r\nHost:", POST + b"Content-Length: 50\r\n\r\n{"]
)
def test_requests_that_stall_are_timed_out(strict_worker, data):
    started = time.monotonic()
    status, body = exchange(strict_worker, data)
    assert status == 408 and body["error"]["type"] == "invalid_request_error"
    assert time.monotonic() - started < 10 * TIMEOUT


@pytest.mark.parametrize("size", [100_001, 20_000_000])
def test_too_large_bodies_get_an_answer_and_not_a_reset(strict_worker, size):
    data = POST + b"Content-Length: %d\r\n\r\n" % size + b" " * size
    status, body = exchange(strict_worker, data)
    assert status == 413 and body["error"]["code"] == "request_too_large"


def test_a_large_body_within_the_limit_is_read(strict_worker):
    body = json.dumps({"model": "tiny-chat", "prompt": "x", "padding": "y" * 99_000}).encode()
    data = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert exchange(strict_worker, data)[1]["choices"][0]["text"] == "Hello!"


def test_expect_continue(strict_worker):
    body = b'{"model": "tiny-chat", "prompt": "x"}'
    data = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert exchange(strict_worker, data)[0] == 200


HALF = "half \ud800"
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": r'{"\udc00": 1}'}}


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": HALF}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": HALF}}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": HALF}]},
        {"stop": [HALF], "user": HALF, "metadata": {HALF: HALF}},
        {HALF: HALF},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_half_a_character_is_served(worker, change, stream):
    response = post(worker, CHATS, CHAT | change | {"stream": stream})
    assert response.status_code == 200 and "error" not in response.text
