"""Connections of one address, and very many connections."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from support.raw_sockets import connect, head, read_all, read_head

from mlxnode.messages.control import Ping, Pong

pytestmark = pytest.mark.slow


def can_have_another_address() -> bool:
    """True where a client can connect from 127.0.0.2 as well: macOS has 127.0.0.1 alone."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def held(worker, count: int, address: str) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(worker, address)) for _ in range(count)]
        for connection in connections:
            connection.sendall(head("GET", "/health"))
            read_head(connection)
        yield connections


@pytest.mark.skipif(not can_have_another_address(), reason="this machine has no 127.0.0.2")
def test_one_address_does_not_take_all_connections(hasty):
    """Of 16 connections, one address gets 14."""
    with held(hasty, 14, "127.0.0.1"):
        with connect(hasty) as connection:
            connection.sendall(head("GET", "/v1/models", key=hasty.key))
            assert read_all(connection).startswith(b"HTTP/1.1 503 ")
        with connect(hasty, "127.0.0.2") as connection:
            connection.sendall(head("GET", "/v1/models", key=hasty.key))
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")
        # Far too many are closed without an answer, and the other address gets in.
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connect(hasty))
            other = stack.enter_context(connect(hasty, "127.0.0.2"))
            other.sendall(head("GET", "/v1/models", key=hasty.key))
            assert read_head(other).startswith(b"HTTP/1.1 200 ")
    hasty.send(Ping(1))
    hasty.wait_for(Pong)
    with held(hasty, 14, "127.0.0.1"):
        pass  # what has ended is not counted


@pytest.mark.long
def test_two_thousand_idle_connections_and_a_thousand_streams(
    many_descriptors, start_worker, served_models
):
    with start_worker(served_models, {}) as worker, contextlib.ExitStack() as stack:
        worker.connect_engine()
        for number in range(2000):  # some are half-open, as far as the worker can know
            connection = stack.enter_context(connect(worker))
            if number % 3 == 0:
                connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")
        body = b'{"model":"org/tiny-text","prompt":"hi","max_tokens":6,"stream":true}'
        length = f"Content-Length: {len(body)}"
        request = head("POST", "/v1/completions", length, "Connection: close", key=worker.key)
        streams = [stack.enter_context(connect(worker)) for _ in range(1000)]
        for stream in streams:
            stream.sendall(request + body)
        for stream in streams:
            answer = read_all(stream)
            assert answer.startswith(b"HTTP/1.1 200 ") and b"data: [DONE]" in answer
