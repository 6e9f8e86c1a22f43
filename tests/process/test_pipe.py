"""Message pipes between real processes."""

import contextlib
import multiprocessing
import os
import queue
import resource
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from mlxnode.messages.control import Connect, Connected, Pong, SupervisorToChild
from mlxnode.messages.data import Failed, Generate, Sampling, WorkerToEngine
from mlxnode.process.pipe import Pipe

TIMEOUT = 20


class End:
    """One end of a pipe, which keeps the messages that it receives."""

    def __init__(self, connection: Connection, receives: object, **options: Any):
        self.received: queue.SimpleQueue = queue.SimpleQueue()
        self.closed = threading.Event()
        self.num_closed = 0
        self.pipe = Pipe(connection, receives, self.received.put, self._on_close, **options)
        self.pipe.start()

    def _on_close(self) -> None:
        self.num_closed += 1
        self.closed.set()

    def threads_ended(self) -> bool:
        self.pipe._writer.join(TIMEOUT)
        self.pipe._reader.join(TIMEOUT)
        return not (self.pipe._writer.is_alive() or self.pipe._reader.is_alive())


@pytest.fixture
def connections():
    # A Pipe closes its connection itself; the other one is closed when it is collected.
    return multiprocessing.Pipe(duplex=True)


def big_request(uid: int) -> Generate:
    return Generate(
        uid=uid,
        model="m",
        prompt=list(range(1_000_000)),
        max_tokens=5,
        stop_ids=[2],
        sampling=Sampling(seed=2**64 - 1),
    )


@pytest.mark.slow
def test_pipe_carries_big_messages_both_ways_at_once(connections):
    left, right = (End(connection, WorkerToEngine) for connection in connections)
    for uid in range(3):
        assert left.pipe.send(big_request(uid))
        assert right.pipe.send(big_request(uid))
    for end in (left, right):
        for uid in range(3):
            assert end.received.get(timeout=TIMEOUT) == big_request(uid)
    left.pipe.close()


@pytest.mark.slow
def test_pipe_send_never_blocks_on_a_peer_that_does_not_read(connections):
    end = End(connections[0], WorkerToEngine, max_queued=10)
    results = [end.pipe.send(big_request(uid)) for uid in range(20)]
    assert results[:10] == [True] * 10
    assert results[-1] is False
    assert not end.pipe.is_closed
    end.pipe.close()  # while its writer is blocked in the middle of a message
    assert end.threads_ended()


def test_pipe_close_wakes_both_ends(connections):
    left, right = (End(connection, WorkerToEngine) for connection in connections)
    left.pipe.close()
    for end in (left, right):
        assert end.closed.wait(TIMEOUT)
        assert end.threads_ended()
        assert end.num_closed == 1
        assert not end.pipe.send(Failed(1, "internal", "late"))


@pytest.mark.parametrize(
    "garbage", [b"", b"\xc1", b"\x93\xa4Evil\x01\x02", b"\x92\xa4Ping\xa1x"]
)
def test_pipe_closes_at_bytes_that_are_no_message(connections, garbage):
    end = End(connections[0], SupervisorToChild)
    connections[1].send_bytes(garbage)
    assert end.closed.wait(TIMEOUT)
    assert end.num_closed == 1
    assert end.received.empty()


def test_pipe_that_got_garbage_ends_although_its_peer_does_not_read(connections):
    end = End(connections[0], WorkerToEngine)
    assert end.pipe.send(big_request(1))
    assert connections[1].poll(TIMEOUT)  # so its writer is in the middle of the message
    connections[1].send_bytes(b"garbage")
    assert end.threads_ended()


def _write_half_a_message(connection: Connection) -> None:
    os.write(connection.fileno(), (1000).to_bytes(4, "big") + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def test_pipe_closes_when_the_peer_dies_in_the_middle_of_a_message():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_write_half_a_message, args=(theirs,))
    process.start()
    theirs.close()
    end = End(ours, WorkerToEngine)
    assert end.closed.wait(TIMEOUT)
    assert end.received.empty()
    process.join(TIMEOUT)
    assert process.exitcode == -signal.SIGKILL


def _answer_on_the_new_pipe(connection: Connection) -> None:
    done = threading.Event()

    def on_message(message: Connect) -> None:
        passed = Connection(control.receive_fd())
        passed.send_bytes(f"hello {message.pipe_id}".encode())
        control.send(Connected(message.pipe_id))

    control = Pipe(connection, SupervisorToChild, on_message, done.set)
    control.start()
    done.wait(TIMEOUT)


def test_pipe_passes_descriptors_to_a_running_process():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_answer_on_the_new_pipe, args=(theirs,))
    process.start()
    theirs.close()
    end = End(ours, Connected | Pong)
    try:
        for pipe_id in range(3):
            left, right = multiprocessing.Pipe(duplex=True)
            end.pipe.send(Connect(pipe_id), right.fileno())
            assert end.received.get(timeout=TIMEOUT) == Connected(pipe_id)
            right.close()
            assert left.recv_bytes() == f"hello {pipe_id}".encode()
            left.close()
    finally:
        end.pipe.close()
        process.join(TIMEOUT)
    assert process.exitcode == 0


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null", encoding="ascii") as file:
        lowest_free = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_pipe_without_a_descriptor_for_the_one_that_comes_closes_and_says_why(
    connections, caplog
):
    def receive(_: object) -> None:
        with no_descriptor_left():
            right.receive_fd()

    closed = threading.Event()
    right = Pipe(connections[1], SupervisorToChild, receive, closed.set).start()
    left = End(connections[0], SupervisorToChild)
    left.pipe.send(Connect(1), connections[0].fileno())
    assert closed.wait(TIMEOUT) and left.closed.wait(TIMEOUT)
    assert "a pipe between the processes is closed: Too many open files" in caplog.text


def test_pipe_sends_and_ends_without_a_free_descriptor(connections):
    with no_descriptor_left():
        left, right = (End(connection, SupervisorToChild) for connection in connections)
        left.pipe.send(Connect(7), connections[0].fileno())
        assert right.received.get(timeout=TIMEOUT) == Connect(7)
        left.pipe.close()
        assert left.threads_ended() and right.threads_ended()
