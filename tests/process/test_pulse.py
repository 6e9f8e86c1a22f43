"""A child that loads shows life while it works, and only then."""

import multiprocessing
import resource
import threading
import time

import msgspec
import pytest

from mlxnode.messages.control import ChildToSupervisor, Progress, Ready
from mlxnode.process import pulse
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import PulsingConnection, stop_pulse


@pytest.fixture
def pair(monkeypatch):
    """The supervisor's end, the child's end, and the work that the child has done."""
    monkeypatch.setattr(pulse, "INTERVAL", 0.01)
    work = {"cpu": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: work["cpu"])
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    monkeypatch.setattr(resource, "getrusage", lambda _: usage)
    ours, theirs = multiprocessing.Pipe(duplex=True)
    child = PulsingConnection(theirs)
    yield ours, child, work
    child.close()
    ours.close()


def receive(connection) -> object:
    return msgspec.msgpack.decode(connection.recv_bytes(), type=ChildToSupervisor)


def test_pulse_follows_the_work(pair):
    ours, _, work = pair
    assert receive(ours) == Progress()  # the traffic so far
    assert not ours.poll(0.1)
    for _ in range(3):
        work["cpu"] += 1.0
        assert ours.poll(10)
        assert receive(ours) == Progress()
        assert not ours.poll(0.1)


def test_pulse_stops_when_the_child_is_ready(pair):
    ours, child, work = pair
    receive(ours)
    stop_pulse(child)
    work["cpu"] += 1.0
    assert not ours.poll(0.1)
    stop_pulse(ours)  # an ordinary connection has none


def test_pulse_leaves_the_messages_of_a_pipe_whole(pair):
    ours, child, work = pair
    closed = threading.Event()
    pipe = Pipe(child, ChildToSupervisor, lambda _: None, closed.set).start()
    failed = {str(i): "x" * 5000 for i in range(20)}
    for _ in range(30):
        work["cpu"] += 1.0
        pipe.send(Ready(failed))
    found = []
    while len(found) < 30:
        message = receive(ours)
        assert message in (Progress(), Ready(failed))
        if message != Progress():
            found.append(message)
    pipe.close()
    assert closed.wait(10)


def test_pulse_ends_with_the_connection(pair):
    ours, child, work = pair
    child.close()
    work["cpu"] += 1.0
    with pytest.raises(EOFError):
        while True:
            ours.recv_bytes()
