"""Watchers of ``/v1/figures`` that do not read: they cost bounded memory, and are dropped."""

import contextlib
import select
import socket
from collections.abc import Generator, Iterator

import httpx2 as httpx
import psutil
import pytest
from msgspec.structs import replace
from support.bare_requests import WAIT
from support.scripted_node import ScriptedNode, flying

pytestmark = pytest.mark.slow
NUM_DEAF = 8
NUM_REQUESTS = 20_000  # which make an event of some megabytes
NUM_EVENTS = 5


@contextlib.contextmanager
def scripted(start_worker, served_models, **server) -> Iterator[ScriptedNode]:
    """A node whose events are larger than what the system holds for a client."""
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        node = ScriptedNode(worker)
        requests = [flying(f"1-{number}", node.key) for number in range(NUM_REQUESTS)]
        node.figures = replace(node.figures, requests=requests)
        try:
            yield node
        finally:
            node.close()


def watch(node: ScriptedNode) -> socket.socket:
    """A watcher that has read nothing yet, and can take little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(WAIT)
    connection.connect(("127.0.0.1", node.worker.port))
    head = f"GET /v1/figures HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {node.worker.key}\r\n"
    connection.sendall(f"{head}\r\n".encode())
    assert connection.recv(16).startswith(b"HTTP/1.1 200")
    return connection


@contextlib.contextmanager
def watchers(node: ScriptedNode) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(watch(node)) for _ in range(NUM_DEAF)]


def events(node: ScriptedNode) -> Generator[int, None, None]:
    """The bytes of each event, of a watcher that reads them."""
    sent = {"authorization": f"Bearer {node.worker.key}"}
    url = f"{node.worker.url}/v1/figures"
    with httpx.stream("GET", url, headers=sent, timeout=WAIT) as stream:
        size, end = 0, b""
        for piece in stream.iter_raw():
            size += len(piece)
            if (end + piece).endswith(b"\n\n"):
                yield size
                size = 0
            end = piece[-1:]


def is_dropped(connection: socket.socket) -> bool:
    """True once the worker has ended the connection, whatever is unread."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(WAIT * 1000))


@pytest.mark.long
def test_watchers_that_do_not_read_are_dropped_and_the_others_go_on(
    start_worker, served_models
):
    with scripted(start_worker, served_models, write_timeout=1.0) as node:
        told = events(node)
        next(told)
        with watchers(node) as deaf:
            assert all(map(is_dropped, deaf))
            for connection in deaf:
                with pytest.raises(ConnectionResetError):
                    while connection.recv(65536):
                        pass
        assert next(told) > 1_000_000
        told.close()


@pytest.mark.long
def test_watchers_that_do_not_read_hold_two_events_at_most(start_worker, served_models):
    with scripted(start_worker, served_models) as node, watchers(node):
        worker, told = psutil.Process(node.worker.process.pid), events(node)
        size = max(next(told) for _ in range(2))
        before = worker.memory_info().rss
        for _ in range(NUM_EVENTS):
            next(told)
        grown = worker.memory_info().rss - before
        told.close()
    # One in the buffer of the connection, and one that waits for it.
    assert grown < 2 * NUM_DEAF * size, (grown, size)
