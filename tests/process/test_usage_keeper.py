"""The keeper of the usage: it writes in a thread, and outlives whatever the file does."""

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from mlxnode.config.tables import ServerConfig
from mlxnode.messages.control import Usage
from mlxnode.process import usage_keeper
from mlxnode.process.usage_file import open_usage, read_usage
from mlxnode.process.usage_keeper import UsageKeeper

NOON = 1_770_033_600.0  # 2026-02-02 12:00 UTC
DAY = 86_400
USAGE = Usage("alice", "m", 10, 4, 3)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "usage.sqlite"


@contextlib.contextmanager
def keeping(path: Path | str, clock=lambda: NOON, **server):
    keeper = UsageKeeper(ServerConfig(usage_file=str(path), **server), clock)
    keeper.open()
    yield keeper
    keeper.close()


def wait_until(condition) -> None:
    paused = threading.Event()
    for _ in range(3000):
        if condition():
            return
        paused.wait(0.01)
    raise AssertionError("it did not come to that")


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_usage_is_counted_by_day_key_and_model(path):
    now = [NOON]
    with keeping(path, clock=lambda: now[0]) as keeper:
        for _ in range(3):
            keeper.add(USAGE)
        keeper.add(Usage("bob", "m", 1, 0, 1))
        keeper.add(Usage("alice", "n", 0, 0, 0))
        now[0] += DAY
        keeper.add(USAGE)
    assert [(r.day, r.key, r.model, *r.sums) for r in read_usage(path)] == [
        ("2026-02-02", "alice", "m", 3, 30, 12, 9),
        ("2026-02-02", "alice", "n", 1, 0, 0, 0),
        ("2026-02-02", "bob", "m", 1, 1, 0, 1),
        ("2026-02-03", "alice", "m", 1, 10, 4, 3),
    ]


def test_usage_is_written_while_the_node_runs_and_after_a_restart(path):
    with keeping(path) as keeper:
        keeper.add(USAGE)
        wait_until(lambda: read_usage(path))
        keeper.add(USAGE)
    with keeping(path) as keeper:
        keeper.add(USAGE)
    assert read_usage(path)[0].requests == 3


def test_usage_without_a_file_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path))
    with keeping("") as keeper:
        keeper.add(USAGE)
    assert list(tmp_path.iterdir()) == []


def test_many_requests_are_few_writes(path, monkeypatch):
    """Between two writes is a pause; what comes meanwhile is one row for each key."""
    written = []
    real = usage_keeper.add_usage

    def count(connection: sqlite3.Connection, sums) -> None:
        written.append(len(sums))
        real(connection, sums)

    monkeypatch.setattr(usage_keeper, "add_usage", count)
    with keeping(path) as keeper:
        for i in range(20_000):
            keeper.add(Usage(f"key-{i % 10}", "m", 1, 0, 1))
    assert max(written) <= 10 and len(written) < 200
    assert sum(row.requests for row in read_usage(path)) == 20_000


def test_usage_waits_in_memory_while_the_file_is_locked(path, caplog, monkeypatch):
    """Whoever counts does not wait: the lock is held until after all are counted."""
    caplog.set_level(logging.INFO, "mlxnode.supervisor")
    monkeypatch.setattr(usage_keeper, "RETRY", 0.01)
    monkeypatch.setattr("mlxnode.process.usage_file._BUSY_TIMEOUT", 0.01)
    open_usage(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(other), keeping(path) as keeper:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(100):
            keeper.add(USAGE)
        wait_until(lambda: warnings_of(caplog))
        other.execute("ROLLBACK")
        wait_until(lambda: read_usage(path))
        wait_until(lambda: "is written again" in caplog.text)
    assert read_usage(path)[0].requests == 100
    [warning] = warnings_of(caplog)
    assert "cannot be written" in warning and "locked" in warning


@pytest.mark.parametrize("kind", ["text", "folder", "below a file"])
def test_usage_of_a_file_that_cannot_be_written_is_one_warning(path, kind, caplog, monkeypatch):
    monkeypatch.setattr(usage_keeper, "RETRY", 0.01)
    tries = []
    monkeypatch.setattr(
        usage_keeper, "open_usage", lambda path: tries.append(path) or open_usage(path)
    )
    if kind == "text":
        path.write_text("no database " * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("a file")
        path = path / "usage.sqlite"
    with keeping(path) as keeper:
        keeper.add(USAGE)
        wait_until(lambda: len(tries) > 3)
        keeper.add(USAGE)
    first, last = warnings_of(caplog)
    assert "cannot be written" in first and str(path) in first
    assert last == f"the usage of 2 requests is lost: {path} was not written"


def test_usage_is_begun_again_when_the_file_was_removed(path):
    with keeping(path) as keeper:
        keeper.add(USAGE)
        wait_until(lambda: read_usage(path))
        path.unlink()
        keeper.add(USAGE)
        wait_until(lambda: read_usage(path))
    assert read_usage(path)[0].requests == 1


def test_usage_of_old_days_is_removed_once_a_day(path):
    now = [NOON]
    with keeping(path, clock=lambda: now[0], usage_days=2) as keeper:
        for day in range(5):
            now[0] = NOON + day * DAY
            keeper.add(USAGE)
            wait_until(lambda: len(read_usage(path, first=keeper._day())) == 1)
    days = [row.day for row in read_usage(path)]
    assert days == ["2026-02-05", "2026-02-06"]


def test_usage_without_a_home_is_a_warning(monkeypatch, caplog):
    monkeypatch.delenv("MLXNODE_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    keeper = UsageKeeper(ServerConfig())
    keeper.open()
    keeper.add(USAGE)
    keeper.close()
    [warning] = warnings_of(caplog)
    assert "server.usage_file" in warning
