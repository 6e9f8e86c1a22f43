"""What ends a node: terminals that close, and signals."""

import os
import shutil
import signal

import pytest
from support.fake_node import TIMEOUT

pytestmark = pytest.mark.slow


def is_drained(node) -> bool:
    """True once the supervisor has drained its workers and ended."""
    code = node.process.wait(TIMEOUT)
    return code == 0 and len(list(node.folder.glob("worker*-drained"))) == 2


@pytest.fixture
def terminal():
    """The two ends of a terminal: ours, and that of the programs in it."""
    ends = list(os.openpty())
    yield ends
    for end in ends:
        os.close(end)


def close(terminal: list[int]) -> None:
    while terminal:
        os.close(terminal.pop())


def test_closed_terminal_drains_the_node(start, terminal):
    node = start(terminal=terminal[1])
    node.wait_ready()
    close(terminal)
    assert is_drained(node)
    assert "SIGHUP: draining" in node.process.stderr.read()
    assert node.is_gone()


def test_closed_terminal_ends_a_node_that_loads(start, folder, terminal):
    (folder / "engine-load").touch()
    node = start(terminal=terminal[1])
    node.wait_for("engine", "started")
    close(terminal)
    assert node.process.wait(TIMEOUT) == 0
    assert node.is_gone()


def test_closed_terminal_drains_although_it_signals_twice(start, terminal):
    """The system signals the programs of a terminal, and then the shell does."""
    node = start(terminal=terminal[1], drain_timeout=600.0)
    node.wait_ready()
    node.order("worker0", "linger")
    close(terminal)
    (lingering,) = node.wait_for("worker0", "drained")
    os.killpg(node.process.pid, signal.SIGHUP)
    os.kill(lingering, signal.SIGKILL)
    assert is_drained(node)


def test_closed_terminal_leaves_a_node_under_nohup(start, terminal):
    node = start(terminal=terminal[1], command=(shutil.which("nohup"),))
    node.wait_ready()
    close(terminal)
    os.killpg(node.process.pid, signal.SIGHUP)
    goes_on(node)
    node.process.send_signal(signal.SIGTERM)
    assert is_drained(node)
    assert "SIGHUP" not in node.process.stderr.read()


def test_hangup_without_a_terminal_is_logged_and_no_more(start):
    node = start()
    node.wait_for("engine", "started")
    os.killpg(node.process.pid, signal.SIGHUP)  # the workers have barely started
    # The system joins two signals of a kind while the first waits.
    assert any("SIGHUP: going on" in line for line in node.process.stderr)
    node.wait_ready()
    os.killpg(node.process.pid, signal.SIGHUP)
    goes_on(node)
    node.process.send_signal(signal.SIGTERM)
    assert is_drained(node)
    assert node.process.stderr.read().count("SIGHUP: going on") == 1


def goes_on(node) -> None:
    """The supervisor still does its work: it replaces a worker that is killed, and no other."""
    (worker,) = node.wait_for("worker0", "started")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker0", "connected-*", 2)
    assert len(node.wait_for("*", "started")) == 4


def test_signal_right_after_the_start_of_a_child_does_not_end_it(start):
    """A child ignores the signals before it has run any code of its own."""
    node = start()
    children: set[int] = set()
    while len(children) < 4 and node.process.poll() is None:  # with the resource tracker
        for pid in set(node.pids()) - {node.process.pid, *children}:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
                os.kill(pid, number)
            children.add(pid)
    node.wait_ready()
    assert children <= set(node.pids())
