"""The usage that workers report to a supervisor in a process of its own, over its end."""

import contextlib
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_node import TIMEOUT, Node

from mlxnode.process.usage_file import open_usage, read_usage

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "usage.sqlite"


@pytest.fixture
def start(tmp_path, path) -> Iterator:
    """Starts supervisors one after the other, each with a folder of orders of its own."""
    nodes: list[Node] = []

    def start(**options: object) -> Node:
        folder = tmp_path / f"node-{len(nodes)}"
        folder.mkdir()
        nodes.append(Node(folder, usage_file=str(path), **options))
        nodes[-1].wait_ready()
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


def use(node: Node, worker: str, count: int) -> None:
    """Let a worker report the usage of ``count`` requests, with the next ping or the drain."""
    order = node.folder / "order"
    order.write_text(str(count))
    order.rename(node.folder / f"{worker}-use")


def total(path: Path) -> int:
    rows = read_usage(path, by=["key"])
    for row in rows:
        assert tuple(row.sums) == (row.requests, *(row.requests * n for n in (10, 4, 3)))
    return sum(row.requests for row in rows)


def wait_for_total(path: Path, count: int) -> None:
    paused = threading.Event()
    for _ in range(TIMEOUT * 50):
        if total(path) == count:
            return
        paused.wait(0.02)
    raise AssertionError(f"{total(path)} requests instead of {count}")


def end(node: Node) -> list[str]:
    """Drain; returns what the supervisor has logged."""
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 0
    return node.process.stderr.read().splitlines()


def about_usage(lines: list[str]) -> list[str]:
    return [line for line in lines if "usage" in line]


@pytest.mark.long
def test_usage_outlives_a_kill_and_the_last_requests_of_a_drain(start, path):
    node = start()
    use(node, "worker0", 300)
    use(node, "worker1", 200)
    wait_for_total(path, 500)
    node.process.kill()
    node.process.wait()
    assert node.is_gone()
    assert total(path) == 500
    node = start()
    use(node, "worker0", 40)
    wait_for_total(path, 540)
    (worker, *_) = node.wait_for("worker0", "connected-*")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker0", "connected-*", 2)
    use(node, "worker0", 2000)  # with the drain, if it comes before the next ping
    use(node, "worker1", 1000)
    assert about_usage(end(node)) == []
    assert total(path) == 3540


def test_usage_of_two_nodes_is_in_one_file(start, path):
    for node in (nodes := [start(), start()]):
        for worker in ("worker0", "worker1"):
            use(node, worker, 500)
    wait_for_total(path, 2000)
    assert [about_usage(end(node)) for node in nodes] == [[], []]


def test_supervisor_serves_while_its_usage_file_is_locked(start, path):
    open_usage(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        node = start()
        use(node, "worker0", 100)
        (worker, *_) = node.wait_for("worker1", "connected-*")
        os.kill(worker, signal.SIGKILL)
        node.wait_for("worker1", "connected-*", 2)  # the loop of the supervisor goes on
        other.execute("ROLLBACK")
    end(node)
    assert total(path) == 100


@pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="no way to give another process more room"
)
def test_supervisor_serves_without_room_on_the_disk_and_writes_when_there_is_some(start, path):
    node = start(file_size=4096)
    use(node, "worker0", 100)
    (worker, *_) = node.wait_for("worker1", "connected-*")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker1", "connected-*", 2)
    while (node.folder / "worker0-use").exists():
        assert node.process.poll() is None
    (worker, *_) = node.wait_for("worker0", "connected-*")
    os.kill(worker, signal.SIGKILL)  # its end comes after all that it has reported
    node.wait_for("worker0", "started", 2)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
    lines = about_usage(end(node))
    assert total(path) == 100
    assert sum("cannot be written" in line for line in lines) == 1
    assert not any("lost" in line for line in lines)


def test_supervisor_serves_with_a_broken_usage_file(start, path):
    path.parent.mkdir()
    path.write_text("no database " * 1000)
    node = start()
    use(node, "worker0", 10)
    (worker, *_) = node.wait_for("worker1", "connected-*")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker1", "connected-*", 2)
    lines = about_usage(end(node))
    assert "cannot be written" in lines[0] and "not a database" in lines[0]
    assert lines[1:] == [f"the usage of 10 requests is lost: {path} was not written"]
    assert path.read_text() == "no database " * 1000
