"""More connections than a worker takes, and more than it has file descriptors for."""

import asyncio
import contextlib
import json
import os
import resource
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlxnode.messages.control import Ping, Pong
from mlxnode.server.http.acceptor import Acceptor
from mlxnode.server.http.tls import Tls

WAIT = 30.0  # seconds
LIMIT = 4
NEEDS_LINUX = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux changes the limits of another process"
)


@pytest.fixture(scope="module")
def small_worker(start_worker, served_models):
    """A worker that takes ``LIMIT`` connections."""
    server = {"max_connections": LIMIT}
    with start_worker(served_models, {"require_auth": False}, server) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def worker(small_worker):
    small_worker.settle()
    return small_worker


def connect(worker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)


def ask(connection: socket.socket, path: str = "/v1/models", body: bytes = b"") -> None:
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict]:
    """Status, headers and body of one response. A reset or an early end is an error."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += (more := connection.recv(65536))
        assert more, f"closed after {received!r}"
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += (more := connection.recv(65536))
        assert more, f"closed after {received!r}"
    return int(status.split()[1]), headers, json.loads(body)


def get(worker, path: str = "/v1/models", body: bytes = b"") -> tuple[int, dict, dict]:
    with connect(worker) as connection:
        ask(connection, path, body)
        return answer(connection)


class Held:
    """Connections that a worker serves and keeps alive."""

    def __init__(self, worker, count: int = LIMIT):
        self._connections = [connect(worker) for _ in range(count)]
        for connection in self._connections:
            ask(connection)
        assert {answer(connection)[0] for connection in self._connections} == {200}

    def __enter__(self) -> list[socket.socket]:
        return self._connections

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()


def test_one_connection_more_gets_a_503_and_is_closed(worker):
    with Held(worker) as held:
        for path in ("/v1/models", "/nope"):
            with connect(worker) as connection:
                ask(connection, path)
                status, headers, body = answer(connection)
                assert connection.recv(1) == b""
            assert (status, headers["connection"], headers["retry-after"]) == (
                503,
                "close",
                "2",
            )
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert "connections" in body["error"]["message"]
        ask(held[0])
        assert answer(held[0])[0] == 200  # the others are still served


class Taken(asyncio.Protocol):
    """A connection that an acceptor has taken, and that nobody serves."""

    def __init__(self, address: str, is_surplus: bool):
        self.address = address
        self.is_surplus = is_surplus

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def test_a_full_acceptor_leaves_a_connection_to_one_with_room():
    """Two on one loop, where the one with room always has its turn before the delay ends."""
    taken: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
    acceptors: list[Acceptor] = []
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for number in range(2):
            acceptor = Acceptor(None, listener.dup(), 1, Tls(None))

            def take(*, address: str, is_surplus: bool, number: int = number) -> Taken:
                taken.put_nowait((number, is_surplus))
                return Taken(address, is_surplus)

            acceptor._make_connection = take
            acceptors.append(acceptor)
            stack.callback(acceptor.close)
            acceptor.start()
        found = []
        for _ in range(3):
            client = socket.create_connection(listener.getsockname(), WAIT)
            stack.enter_context(client)
            found.append(await asyncio.wait_for(taken.get(), WAIT))
        assert {number for number, _ in found[:2]} == {0, 1}
        assert [is_surplus for _, is_surplus in found] == [False, False, True]
        for connection in [c for acceptor in acceptors for c in acceptor.connections]:
            connection.transport.close()
        await asyncio.sleep(0)  # the transports close now


def test_health_is_answered_beyond_the_limit(worker):
    with Held(worker):
        status, headers, _ = get(worker, "/health")
    assert (status, headers["connection"]) == (200, "close")


def test_a_large_body_beyond_the_limit_is_answered(worker):
    with Held(worker):
        assert get(worker, "/v1/completions", b"x" * 3_000_000)[0] == 503


def test_a_connection_that_ends_makes_room(worker):
    with Held(worker) as held:
        assert get(worker)[0] == 503
        held.pop().close()
        worker.send(Ping(1))
        worker.wait_for(Pong)  # the worker has noticed the end
        assert get(worker)[0] == 200


def test_a_storm_is_answered_without_a_reset(worker):
    """Ten times as many clients as connections, all at once, again and again."""
    count = 10 * (LIMIT + 32)
    barrier = threading.Barrier(40)

    def ask_often(_: int) -> list[int]:
        barrier.wait(WAIT)
        return [get(worker)[0] for _ in range(count // 40 + 1)]

    with ThreadPoolExecutor(40) as pool:
        found = [status for statuses in pool.map(ask_often, range(40)) for status in statuses]
    assert set(found) <= {200, 503}
    assert get(worker)[0] == 200


def test_connections_that_say_nothing_do_not_keep_the_others_out(worker):
    """Both the limit and the places beyond it are taken by silent clients."""
    with Held(worker):
        silent = [connect(worker) for _ in range(40)]
        started = time.monotonic()
        assert get(worker)[0] == 503
        assert time.monotonic() - started < WAIT / 2
        for connection in silent:
            connection.close()


def test_connection_beyond_the_limit_ends_although_it_trickles(worker):
    """Its request never ends, and each byte comes in time."""
    with Held(worker), connect(worker) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nx: ")
        connection.settimeout(0.5)
        deadline = time.monotonic() + WAIT
        is_open = True
        while is_open:
            assert time.monotonic() < deadline
            try:
                connection.sendall(b"x")
                is_open = connection.recv(1) != b""
            except TimeoutError:
                continue
            except ConnectionError:
                is_open = False


@NEEDS_LINUX
def test_accept_without_descriptors_waits_for_some(start_worker, served_models, capfd):
    """The limit is lowered under the worker: no client is reset, and the worker is idle."""
    with start_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        assert get(worker)[0] == 200
        pid = worker.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        lowest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
        clients: list[socket.socket] = []
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
            clients += [connect(worker) for _ in range(lowest)]  # some find a free number
            for client in clients:
                ask(client)
            select.select(clients, [], [], WAIT)
            before = cpu_seconds(pid)
            threading.Event().wait(2)
            assert cpu_seconds(pid) - before < 0.5
            waiting = set(clients) - set(select.select(clients, [], [], 0)[0])
            assert waiting
            worker.send(Ping(1))
            worker.wait_for(Pong)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert {answer(client)[0] for client in clients} == {200}
        for client in clients:
            client.close()
    log = capfd.readouterr().err
    assert log.count("no connection can be accepted for now: Too many open files") == 1


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
