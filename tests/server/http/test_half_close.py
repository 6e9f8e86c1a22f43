"""Clients that end their side of the connection: those that wait, and those that are gone."""

import json
import socket

import pytest
from support.bare_requests import WAIT, chat
from support.fake_engine import FakeEngine
from support.raw_sockets import read_until

from mlxnode.messages.data import Abort, Generate

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def begin(engine: FakeEngine) -> int:
    """The uid of the request that the engine has, and does not answer."""
    return engine.next(Generate).uid


def send(worker, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)
    connection.sendall(data)
    return connection


def test_half_closed_client_gets_its_answer(worker):
    with chat(worker) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    head, _, body = answer.removeprefix(INTERIM).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello!"


def test_half_closed_client_gets_a_late_answer_after_interim_responses(worker):
    worker.engine.is_silent = True
    with chat(worker) as connection:
        uid = begin(worker.engine)
        connection.shutdown(socket.SHUT_WR)
        answer = read_until(connection, INTERIM * 2)
        worker.engine.update(uid, "Late.", "stop")
        answer += read_all(connection)
    while answer.startswith(INTERIM):
        answer = answer.removeprefix(INTERIM)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"Late." in body


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_half_closed_client_gets_its_stream_with_comments(worker, version):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "Hel")
    data = json.dumps(CHAT | {"stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/{version}\r\nHost: x\r\n"
        f"Authorization: Bearer {worker.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with send(worker, head.encode() + data) as connection:
        answer = read_until(connection, b'"Hel"')
        connection.shutdown(socket.SHUT_WR)
        answer += read_until(connection, b"\n:\n\n")
        worker.engine.update(begin(worker.engine), "lo!", "stop")
        answer += read_all(connection)
    assert INTERIM not in answer and b'"lo!"' in answer
    assert answer.rstrip(b"0\r\n").endswith(b"data: [DONE]")


def test_half_closed_client_of_http10_without_a_stream_is_taken_for_gone(worker):
    worker.engine.is_silent = True
    data = json.dumps(CHAT).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {worker.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with send(worker, head.encode() + data) as connection:
        uid = begin(worker.engine)
        connection.shutdown(socket.SHUT_WR)
        assert worker.engine.next(Abort).uid == uid


def test_client_that_leaves_a_silent_stream_is_aborted(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "Hel")
    with chat(worker, stream=True) as connection:
        read_until(connection, b'"Hel"')
    uid = begin(worker.engine)
    assert worker.engine.next(Abort).uid == uid


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_half_closed_client_with_half_a_request_is_told_so(plain_worker, data):
    with send(plain_worker, data) as connection:
        connection.shutdown(socket.SHUT_WR)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "ended before the request did" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("data", [b"", b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_half_closed_client_without_a_further_request_is_closed(plain_worker, data):
    with send(plain_worker, data) as connection:
        if data:
            read_until(connection, b'"object":"list"')
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
