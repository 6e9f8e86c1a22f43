"""When the process of batches is started, woken and ended."""

from pathlib import Path

import pytest

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.messages.control import Busy, Stop, Wake
from mlxnode.process import inner_socket
from mlxnode.process.batch_process import BatchProcess
from mlxnode.process.inner_socket import InnerSocket, max_in_flight


class FakeChild:
    """What BatchProcess sees of a child, without a process."""

    def __init__(self):
        self.is_alive = False
        self.restart_at: float | None = None
        self.num_starts = 0
        self.sent: list[object] = []

    def start(self) -> None:
        self.is_alive, self.restart_at = True, None
        self.num_starts += 1

    def send(self, message: object) -> None:
        self.sent.append(message)

    def reap(self) -> str:
        self.is_alive = False
        return "batches ended"

    def schedule_restart(self) -> float:
        self.restart_at = 5.0
        return 5.0


@pytest.fixture
def process(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path))
    made = BatchProcess(NodeConfig(), lambda event: None)
    made.child = FakeChild()
    return made


def test_batch_process_is_started_by_the_first_wake(process):
    process.open(Path("/s"))
    assert process.child.num_starts == 0 and process.children == []
    process.wake()
    process.wake()
    assert process.child.num_starts == 1 and process.child.sent == [Wake()]
    assert process.children == [process.child]


def test_batch_process_is_started_with_a_node_that_has_files(process, tmp_path):
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "batches.sqlite").touch()
    process.open(Path("/s"))
    assert process.child.num_starts == 1


def test_batch_process_without_an_inner_socket_never_starts(process):
    process.open(None)
    process.wake()
    assert process.child.num_starts == 0


def test_batch_process_without_work_ends(process):
    process.open(Path("/s"))
    process.wake()
    process.take(Busy(False))
    assert process.child.sent == [Stop()]
    process.take(None)
    assert process.child.restart_at is None and process.children == []
    process.wake()
    assert process.child.num_starts == 2


def test_batch_process_that_is_woken_as_it_ends_starts_again(process):
    process.open(Path("/s"))
    process.wake()
    process.take(Busy(False))
    process.wake()  # after the stop
    process.take(None)
    assert process.child.restart_at is not None
    process.child.start()
    process.wake()  # before the stop, as the process says that it is busy again
    process.take(Busy(False))
    process.take(Busy(True))
    process.take(None)
    assert process.child.restart_at is not None


def test_batch_process_that_dies_is_started_again_until_the_node_ends(process):
    process.open(Path("/s"))
    process.wake()
    process.take(None)
    assert process.child.restart_at is not None
    process.child.start()
    process.end()
    assert process.child.sent[-1] == Stop()
    process.take(None)
    assert process.child.restart_at is None


def test_max_in_flight_fills_a_batch_and_leaves_room_in_the_queue():
    assert max_in_flight(EngineConfig()) == 48
    assert max_in_flight(EngineConfig(max_batch_size=1)) == 2
    assert max_in_flight(EngineConfig(max_queue_size=8)) == 4
    assert max_in_flight(EngineConfig(max_queue_size=1)) == 1


def test_inner_socket_is_the_owners_alone_and_left_by_no_killed_node(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path))
    monkeypatch.setattr(inner_socket, "is_running", lambda pid: pid != 999)
    made = InnerSocket()
    made.path.parent.mkdir(parents=True, exist_ok=True)
    left, other = (made.path.parent / f"inner-{pid}.sock" for pid in (999, 998))
    left.touch()
    other.touch()
    made.open()
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    assert not left.exists() and other.exists()
    made.close()
    made.close()
    assert not made.path.exists()
    other.unlink()
