"""Clients that send or read byte by byte, or not at all."""

import contextlib
import json
import socket
import threading
import time

import pytest
from support.raw_sockets import WAIT, connect, head, read_all, read_head

from mlxnode.messages.data import Abort, Generate

pytestmark = pytest.mark.slow


CHAT = "/v1/chat/completions"
LENGTH = "Content-Length: 15000000"


def drip(connection: socket.socket, piece: bytes) -> bytes:
    """Send ``piece`` again and again, until the worker answers and closes."""
    deadline = time.monotonic() + WAIT
    connection.settimeout(0.1)
    received = b""
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            connection.sendall(piece)
        try:
            more = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            more = b""
        received += more
        if not more:
            return received
    raise AssertionError(f"still open after {WAIT} s: {received!r}")


DRIPS = {
    "head": (b"GET /v1/models HTTP/1.1\r\nx: ", b"y", b"408"),
    "line": (b"GET /", b"y", b"408"),
    "fields": (b"GET /v1/models HTTP/1.1\r\n", b"a: b\r\n", b"4"),
    "body": (
        head("POST", "/v1/completions", "Content-Length: 500000", key="own"),
        b" ",
        b"408",
    ),
    "chunks": (
        head("POST", "/v1/completions", "Transfer-Encoding: chunked", key="own"),
        b"1\r\n \r\n",
        b"408",
    ),
    "large": (
        head("POST", "/v1/completions", "Content-Length: 500000", key="own") + b" " * 100_000,
        b" ",
        b"408",
    ),
}


@pytest.mark.parametrize("name", DRIPS)
def test_no_part_of_a_request_can_drip_for_long(hasty, name):
    begin, piece, status = DRIPS[name]
    with connect(hasty) as connection:
        connection.sendall(begin.replace(b"Bearer own", b"Bearer %b" % hasty.key.encode()))
        answer = drip(connection, piece)
    assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_body_that_nobody_reads_can_not_drip_for_long(hasty):
    """A wrong key: the answer comes at once, and the rest of the body ends some time later."""
    with connect(hasty) as connection:
        connection.sendall(head("POST", CHAT, LENGTH))
        assert drip(connection, b" ").startswith(b"HTTP/1.1 401 ")


def test_an_idle_connection_is_closed(hasty):
    for begin in (b"", head("GET", "/health")):
        with connect(hasty) as connection:
            connection.sendall(begin)
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 200 ") == bool(begin)


def test_a_stream_that_nobody_reads_is_cut_and_its_request_aborted(hasty):
    hasty.settle()
    hasty.engine.on_generate = lambda message: hasty.engine.update(message.uid, "x" * 900)
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
    options = {"max_tokens": 950, "stream": True, "logprobs": True}  # 80 bytes a token
    data = json.dumps(body | options).encode()
    request = head("POST", CHAT, f"Content-Length: {len(data)}", key=hasty.key) + data
    with connect(hasty, buffer=4096) as connection:
        connection.sendall(request)
        uid = hasty.engine.next(Generate).uid
        assert hasty.engine.next(Abort).uid == uid


def test_answers_that_nobody_reads_are_cut(hasty):
    """Requests are sent ahead, and none of their answers is read."""
    with connect(hasty, buffer=4096) as connection:
        connection.sendall(head("GET", "/openapi.json", key=hasty.key) * 20)
        connection.settimeout(0.2)
        deadline = time.monotonic() + WAIT
        is_open = True
        while is_open:
            assert time.monotonic() < deadline
            threading.Event().wait(0.1)
            try:
                connection.sendall(b"\r\n")
            except ConnectionError:
                is_open = False


@pytest.mark.long
def test_a_slow_reader_gets_all_of_its_answer(hasty):
    """It takes longer than every limit, and something of the answer within each."""
    with connect(hasty, buffer=4096) as connection:
        connection.sendall(head("GET", "/openapi.json", "Connection: close", key=hasty.key))
        received = read_head(connection)
        size = int(received.lower().partition(b"content-length: ")[2].split()[0])
        begun = time.monotonic()
        pause, pieces = threading.Event(), 30
        while more := connection.recv(max(size // pieces, 1)):
            received += more
            pause.wait(8.0 / pieces)
        assert time.monotonic() - begun > 6.0
    json.loads(received.partition(b"\r\n\r\n")[2])
