"""The usage file: what is added, read and kept, by several processes, over kills."""

import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from mlxnode.errors import UsageError
from mlxnode.process.usage_file import (
    Place,
    Sums,
    UsageRow,
    add_usage,
    keep_days,
    open_usage,
    read_usage,
    usage_path,
)
from mlxnode.process.usage_text import usage_csv, usage_text

MONDAY, TUESDAY = "2026-02-02", "2026-02-03"
ALICE = Place(MONDAY, "alice", "m")
ONE = Sums(1, 10, 4, 3)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "new folder %41?#" / "usage.sqlite"


def add(path: Path, *sums: tuple[Place, Sums]) -> None:
    with contextlib.closing(open_usage(path)) as connection:
        add_usage(connection, sums)


def test_usage_is_added_to_what_the_file_has(path):
    add(path, (ALICE, ONE), (Place(TUESDAY, "alice", "m"), ONE))
    add(path, (ALICE, Sums(2, 20, 8, 6)), (Place(MONDAY, "bob", "n"), ONE))
    assert [tuple(row.sums) for row in read_usage(path)] == [(3, 30, 12, 9), ONE, ONE]
    assert read_usage(path)[0] == UsageRow(
        day=MONDAY,
        key="alice",
        model="m",
        requests=3,
        prompt_tokens=30,
        cached_tokens=12,
        completion_tokens=9,
    )


def test_usage_is_read_by_days_key_and_model(path):
    places = [(d, k, m) for d in (MONDAY, TUESDAY) for k in ("alice", "bob") for m in "mn"]
    add(path, *((Place(*place), ONE) for place in places))
    by_key = read_usage(path, by=["key"])
    assert [(row.key, row.day, row.model, row.requests) for row in by_key] == [
        ("alice", None, None, 4),
        ("bob", None, None, 4),
    ]
    assert [row.day for row in read_usage(path, first=TUESDAY, by=["day"])] == [TUESDAY]
    assert [row.day for row in read_usage(path, last=MONDAY, by=["day"])] == [MONDAY]
    [row] = read_usage(path, key="bob", model="n", by=["model"])
    assert (row.model, row.requests) == ("n", 2)
    assert read_usage(path, key="bob' OR 1=1 --") == []
    assert [row.day for row in read_usage(path, by=["key", "day"])][:2] == [MONDAY, MONDAY]


def test_usage_is_of_its_owner_alone(path):
    add(path, (ALICE, ONE))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with contextlib.closing(open_usage(path)) as connection:
        add_usage(connection, [(ALICE, ONE)])
        files = list(path.parent.iterdir())
        assert len(files) == 3 and all(f.stat().st_mode & 0o077 == 0 for f in files)


def test_usage_of_a_missing_or_a_new_file_is_empty(path):
    assert read_usage(path) == []
    path.parent.mkdir()
    path.touch()  # the node has only begun
    assert read_usage(path) == []


@pytest.mark.parametrize(
    "content", [b"no database, but text " * 100, b"SQLite format 3\0" + bytes(4000)]
)
def test_usage_in_a_broken_file_is_an_error_and_stays(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"usage\.sqlite cannot be read: "):
        read_usage(path)
    with pytest.raises(sqlite3.Error):
        open_usage(path)
    assert path.read_bytes() == content


def test_usage_of_a_later_version_is_neither_read_nor_changed(path):
    add(path, (ALICE, ONE))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="version 2 of the table, not 1"):
        read_usage(path)
    with pytest.raises(sqlite3.DatabaseError, match="version 2"):
        open_usage(path)


def test_usage_of_the_newest_days_is_kept(path):
    days = [f"2026-01-{day:02}" for day in range(1, 11)]
    add(path, *((Place(day, key, "m"), ONE) for day in days for key in ("alice", "bob")))
    with contextlib.closing(open_usage(path)) as connection:
        keep_days(connection, 100)
        assert len(read_usage(path, by=["day"])) == 10
        keep_days(connection, 3)
    assert [row.day for row in read_usage(path, by=["day"])] == days[-3:]


def test_a_clock_that_was_wrong_for_a_day_removes_no_more_than_a_day(path):
    days = [f"2026-01-{day:02}" for day in range(1, 11)]
    add(path, *((Place(day, "alice", "m"), ONE) for day in [*days, "2091-01-01"]))
    with contextlib.closing(open_usage(path)) as connection:
        keep_days(connection, 10)
    assert [row.day for row in read_usage(path, by=["day"])] == [*days[1:], "2091-01-01"]


def write_for_long(path: Path, counted: multiprocessing.Queue) -> None:
    """Add one request at a time; tell of each only after it was added."""
    with contextlib.closing(open_usage(path)) as connection:
        while True:
            add_usage(connection, [(ALICE, ONE)])
            counted.put(None)


@pytest.mark.slow
def test_usage_of_two_processes_is_lost_by_no_kill_and_counted_once(path):
    context = multiprocessing.get_context("spawn")
    told = [context.Queue(), context.Queue()]
    writers = [context.Process(target=write_for_long, args=(path, one)) for one in told]
    for writer in writers:
        writer.start()
    try:
        for one in told:
            for _ in range(random.randint(1, 40)):
                one.get(timeout=60)
                read_usage(path)
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    [row] = read_usage(path)
    assert tuple(row.sums) == (row.requests, *(row.requests * n for n in (10, 4, 3)))
    before = row.requests
    add(path, (ALICE, ONE))
    assert read_usage(path)[0].requests == before + 1


def test_usage_path_is_in_the_state_folder_of_the_user(tmp_path, monkeypatch):
    assert usage_path("") is None
    assert usage_path("/a/b") == Path("/a/b")
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path))
    assert usage_path(None) == tmp_path / "usage.sqlite"
    monkeypatch.delenv("MLXNODE_STATE")
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setattr("sys.platform", "darwin")
    own = Path("/home/x/Library/Application Support/mlxnode")
    assert usage_path(None) == own / "usage.sqlite"
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert usage_path(None) == Path("/home/x/.local/state/mlxnode/usage.sqlite")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert usage_path(None) == Path("/state/mlxnode/usage.sqlite")


def test_usage_path_without_a_home_is_an_error_that_names_the_key(monkeypatch):
    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MLXNODE_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(UsageError, match=r"server\.usage_file has no default here"):
        usage_path(None)


def test_usage_text_has_aligned_columns_and_the_sums_of_many_keys(path):
    keys = [f"key-{i}" for i in range(500)]
    add(path, *((Place(MONDAY, key, "org/model"), ONE) for key in keys))
    lines = usage_text(read_usage(path), ["day", "key", "model"]).splitlines()
    assert "".join(lines[0].split()) == "DAYKEYMODELREQUESTSPROMPTCACHEDGENERATED"
    assert lines[-1].split() == ["all", "500", "5000", "2000", "1500"]
    assert len(lines) == 502 and len({len(line) for line in lines}) == 1
    by_model = usage_text(read_usage(path, by=["model"]), ["model"]).splitlines()
    assert by_model[1].split() == ["org/model", "500", "5000", "2000", "1500"]


def test_usage_csv_quotes_what_has_commas(path):
    add(path, (Place(MONDAY, "alice", 'a,"b'), ONE))
    assert usage_csv(read_usage(path), ["key", "model"]) == (
        "key,model,requests,prompt_tokens,cached_tokens,completion_tokens\n"
        'alice,"a,""b",1,10,4,3\n'
    )
