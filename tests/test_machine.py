"""A whole node on a tiny model, and what the machine does to it: limits, signals, sleep."""

import contextlib
import fcntl
import os
import resource
import signal
import socket
import stat
import termios
import threading
import time
from pathlib import Path

import openai
import pytest
from support import tiny
from support.node_process import NodeProcess, is_running

pytestmark = pytest.mark.slow

WAIT = 60.0  # seconds
NUM_CLIENTS = 400  # more than the descriptors of the node
CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.tiny]
path = "{model}"
type = "chat"
[server]
workers = {workers}
drain_timeout = 0.5
{server}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("model") / "chat", context=30_000)


@pytest.fixture
def config(model):
    def write(workers: int = 1, server: str = "") -> str:
        return CONFIG.format(model=model, workers=workers, server=server)

    return write


def client_of(node: NodeProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0)


def ask(client: openai.OpenAI, **options):
    """A question that the tiny model answers with ``max_tokens`` tokens."""
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi"}],
        logit_bias={str(tiny.EOS_ID): -100},
        **({"max_tokens": 4} | options),
    )


def stream_long(client: openai.OpenAI) -> openai.Stream:
    """A stream that takes a minute or so, after its first event."""
    stream = ask(client, stream=True, max_tokens=25_000)
    next(stream)
    return stream


class Client:
    """A connection that asks, and stays open."""

    def __init__(self, node: NodeProcess):
        port = int(node.url.rpartition(":")[2])
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self._connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def status(self) -> int:
        """A reset, or an end without an answer, is an error."""
        received = self._connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 "), received
        status = int(received.split()[1])
        assert (status == 503) == (b"\r\nretry-after: " in received)
        return status

    def close(self) -> None:
        self._connection.close()


def statuses(node: NodeProcess, count: int) -> list[int]:
    """What ``count`` clients get that are all connected at the same time."""
    clients: list[Client] = []
    try:
        clients += [Client(node) for _ in range(count)]
        return [client.status() for client in clients]
    finally:
        for client in clients:
            client.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("limit", "expected"), [("ulimit -Sn 256", {200}), ("ulimit -n 256", {200, 503})]
)
def test_node_with_few_descriptors_answers_every_client(tmp_path, config, limit, expected):
    command = ("sh", "-c", f'{limit} && exec "$@"', "sh")
    with NodeProcess(tmp_path, config(), command=command) as node:
        node.wait_ready()
        engine = node.engine_pid()
        for _ in range(2):
            found = statuses(node, NUM_CLIENTS)
            assert len(found) == NUM_CLIENTS
            assert set(found) == expected
        with client_of(node) as client:
            assert ask(client).choices[0].finish_reason == "length"
        assert is_running(engine) and node.engine_pid() == engine
        if hasattr(resource, "prlimit"):  # on Linux: mlx_lm has left the limits as they were
            children = [engine, *node.worker_pids(), node.process.pid]
            assert len({resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in children}) == 1
    log = "".join(node.log)
    assert log.count("open files: at most ") == 1
    assert "(it was 256)" in log
    assert ("at most 256" in log) == (503 in expected)
    assert "Too many open files" not in log


@pytest.mark.long
def test_workers_fill_up_before_clients_are_refused_for_good(tmp_path, config):
    with (
        NodeProcess(tmp_path, config(2, "max_connections = 3")) as node,
        contextlib.ExitStack() as held,
    ):
        node.wait_ready()
        served, deadline = 0, time.monotonic() + WAIT
        while served < 6:
            # A worker that is full gives the other worker a moment. On a busy machine, that
            # may be too short: then it refuses the client, and the client tries again.
            assert time.monotonic() < deadline
            client = Client(node)
            if client.status() == 200:
                served += 1
                held.callback(client.close)
            else:
                client.close()
        assert statuses(node, 2) == [503, 503]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_drain_sends_an_error_to_a_stream_that_it_cuts(tmp_path, config, number):
    with NodeProcess(tmp_path, config()) as node, contextlib.ExitStack() as stack:
        node.wait_ready()
        stream = stream_long(stack.enter_context(client_of(node)))
        node.process.send_signal(number)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        assert node.process.wait(WAIT) == 0


@pytest.mark.long
def test_closed_terminal_drains_a_node_that_streams(tmp_path, config):
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    options = {"start_new_session": True, "preexec_fn": take_terminal}
    with NodeProcess(tmp_path, config(), **options) as node, contextlib.ExitStack() as stack:
        node.wait_ready()
        stream = stream_long(stack.enter_context(client_of(node)))
        os.close(theirs)
        os.close(ours)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        assert node.process.wait(WAIT) == 0


@pytest.mark.long
@pytest.mark.skipif(os.path.exists("/usr/bin/caffeinate"), reason="a Mac takes its own command")
@pytest.mark.parametrize("is_prevented", [True, False])
def test_sleep_is_prevented_while_a_request_runs(tmp_path, config, is_prevented):
    (tmp_path / "bin").mkdir()
    command, started = tmp_path / "bin" / "caffeinate", tmp_path / "started"
    command.write_text(f"#!/bin/sh\necho $$ $* >> {started}\nexec tail -f /dev/null\n")
    command.chmod(stat.S_IRWXU)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    server = "" if is_prevented else "prevent_sleep = false"
    with NodeProcess(tmp_path, config(server=server), env={**os.environ, "PATH": path}) as node:
        node.wait_ready()
        assert not started.exists()
        with client_of(node) as client, stream_long(client):
            if not is_prevented:
                threading.Event().wait(1)
                assert not started.exists()
                return
            wait_until(lambda: started.exists() and started.read_text().endswith("\n"))
        pid, *arguments = started.read_text().split()
        assert arguments == ["-i", "-w", str(node.process.pid)]
        assert is_running(int(pid))
        wait_until(lambda: not is_running(int(pid)))  # some seconds after the request
        with client_of(node) as client, stream_long(client):
            wait_until(lambda: started.read_text().count("\n") == 2)
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(WAIT) == 0
        last = int(started.read_text().splitlines()[1].split()[0])
        assert not is_running(last)


def wait_until(is_true) -> None:
    paused = threading.Event()
    for _ in range(int(WAIT / 0.05)):
        if is_true():
            return
        paused.wait(0.05)
    raise AssertionError("it never became true")
