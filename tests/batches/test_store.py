"""The store of files and batches, as several processes use it."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mlxnode.batches.files import Kept
from mlxnode.batches.rows import (
    FileInUse,
    FileTooLarge,
    HasEnded,
    QuotaExceeded,
    Result,
    StoredFile,
    Tokens,
    TooManyOpen,
)
from mlxnode.batches.store import BatchStore

DAY = 86_400


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[BatchStore]:
    store = BatchStore(tmp_path / "store", clock=clock)
    yield store
    store.close()


def add_file(
    store: BatchStore, owner: str = "alice", data: bytes = b"{}\n", **how
) -> StoredFile:
    upload = store.files.begin(owner, **how)
    upload.write(data)
    [file] = store.files.keep([Kept(upload, "lines.jsonl", "batch", None)])
    return file


def add_batch(store: BatchStore, owner: str = "alice", **fields):
    file = add_file(store, owner)
    batch = store.create(
        owner,
        endpoint="/v1/chat/completions",
        input_file_id=file.id,
        completion_window="24h",
        seconds=DAY,
        **fields,
    )
    assert batch is not None
    return batch


def names(store: BatchStore) -> set[str]:
    return {path.name for path in (store.folder / "files").iterdir()}


def test_store_keeps_a_file_that_its_owner_alone_finds(store):
    file = add_file(store, data=b"hello")
    assert store.files.get("alice", file.id) == file
    assert store.files.get("bob", file.id) is None
    assert store.files.path(file.id).read_bytes() == b"hello"
    assert file.bytes == 5
    assert store.files.path(file.id).stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert not store.files.delete("bob", file.id)
    assert store.files.delete("alice", file.id)
    assert names(store) == set()


def test_store_does_not_show_a_file_before_it_is_kept(store):
    upload = store.files.begin("alice")
    upload.write(b"half")
    assert store.files.page("alice", limit=10) == []
    assert store.files.get("alice", upload.id) is None
    upload.discard()
    assert names(store) == set()


def test_store_pages_files_in_both_orders(store):
    files = [add_file(store) for _ in range(5)]
    newest = files[::-1]
    assert store.files.page("alice", limit=2) == newest[:2]
    assert store.files.page("alice", limit=2, after=newest[1]) == newest[2:4]
    assert store.files.page("alice", limit=9, after=files[1], newest_first=False) == files[2:]
    assert store.files.page("alice", limit=9, purpose="vision") == []
    assert store.files.page("bob", limit=9) == []


def test_store_refuses_files_beyond_the_quota_of_a_key(store):
    add_file(store, data=b"x" * 3000, quota=5000)
    upload = store.files.begin("alice", quota=5000)
    with pytest.raises(QuotaExceeded):
        upload.reserve(2001)
    upload.reserve(2000)
    upload.write(b"x" * 2000)
    with pytest.raises(QuotaExceeded):
        upload.write(b"x")
    other = store.files.begin("bob", quota=5000)
    other.reserve(5000)  # the quota is of each key
    upload.discard()
    other.discard()
    assert store.files.used("alice") == 3000
    assert store.files.used("bob") == 0


def test_store_counts_what_is_being_written_by_others(store):
    """However many uploads run at the same time, the quota holds."""

    def upload(_: int) -> bool:
        begun = store.files.begin("alice", quota=50_000)
        try:
            for _ in range(10):
                begun.write(b"x" * 1000)
        except QuotaExceeded:
            begun.discard()
            return False
        store.files.keep([Kept(begun, "f", "batch", None)])
        return True

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(upload, range(16)))
    assert store.files.used("alice") <= 50_000
    kept = store.files.page("alice", limit=100)
    assert sum(file.bytes for file in kept) == store.files.used("alice") > 0


def test_store_refuses_a_file_that_is_too_large(store):
    upload = store.files.begin("alice", max_bytes=10)
    upload.write(b"x" * 10)
    with pytest.raises(FileTooLarge):
        upload.write(b"x")
    upload.discard()


def test_store_forgets_expired_files(store, clock):
    upload = store.files.begin("alice")
    [file] = store.files.keep([Kept(upload, "f", "batch", int(clock.now) + 10)])
    kept = add_file(store)
    clock.now += 10
    assert store.files.get("alice", file.id) is None
    assert store.files.page("alice", limit=5) == [kept]
    store.clean()
    assert names(store) == {kept.id}


def test_store_keeps_the_expired_input_of_an_open_batch(store, clock):
    upload = store.files.begin("alice")
    [file] = store.files.keep([Kept(upload, "f", "batch", int(clock.now) + 10)])
    batch = store.create(
        "alice",
        endpoint="/v1/embeddings",
        input_file_id=file.id,
        completion_window="24h",
        seconds=DAY,
    )
    clock.now += 10
    store.clean()
    assert names(store) == {file.id}
    store.fail(batch.id, [("a", "b", 1, None)])
    store.clean()
    assert names(store) == set()


def test_store_refuses_to_delete_the_input_of_an_open_batch(store):
    batch = add_batch(store)
    with pytest.raises(FileInUse, match=batch.id):
        store.files.delete("alice", batch.input_file_id)
    store.cancel("alice", batch.id)
    store.finish(batch.id, "cancelled")
    assert store.files.delete("alice", batch.input_file_id)


def test_store_runs_a_batch_to_its_end(store, clock):
    batch = add_batch(store, metadata={"a": "b"}, output_seconds=3600)
    assert batch.status == "validating"
    assert batch.metadata == {"a": "b"}
    assert batch.expires_at == clock.now + DAY
    assert store.open_batches() == [batch]
    assert store.begin(batch.id, total=3, model="m")
    assert not store.begin(batch.id, total=3, model="m")
    results = [
        Result(2, b"two", True),
        Result(1, b"one", False, Tokens(5, 1, 3, 2)),
        Result(3, b"three", False, (5, 0, 3, 0)),
    ]
    assert store.append(batch.id, results[:2]) == 2
    assert store.done_lines(batch.id) == {1, 2}
    assert store.append(batch.id, results) == 1  # each line counts once
    assert store.finalize(batch.id)
    with pytest.raises(HasEnded):
        store.cancel("alice", batch.id)
    ended = store.finish(batch.id, "completed")
    assert ended == store.get("alice", batch.id)
    assert (ended.status, ended.total, ended.completed, ended.failed) == ("completed", 3, 2, 1)
    assert (ended.input_tokens, ended.cached_tokens) == (10, 1)
    assert (ended.output_tokens, ended.reasoning_tokens) == (6, 2)
    assert ended.model == "m"
    assert ended.in_progress_at == ended.finalizing_at == ended.completed_at == clock.now
    assert store.files.path(ended.output_file_id).read_bytes() == b"one\nthree\n"
    assert store.files.path(ended.error_file_id).read_bytes() == b"two\n"
    output = store.files.get("alice", ended.output_file_id)
    assert output.purpose == "batch_output"
    assert output.expires_at == clock.now + 3600
    assert store.open_batches() == []
    assert store.append(batch.id, [Result(4, b"four", False)]) == 0
    assert store.finish(batch.id, "completed") is None


def test_store_writes_no_file_without_results(store):
    batch = add_batch(store)
    assert store.cancel("alice", batch.id).status == "cancelling"
    assert store.cancel("alice", batch.id).status == "cancelling"
    assert not store.begin(batch.id, total=1, model=None)
    ended = store.finish(batch.id, "cancelled")
    assert ended.output_file_id is None and ended.error_file_id is None
    assert store.cancel("alice", batch.id) == ended


def test_store_tells_why_a_batch_has_failed(store):
    batch = add_batch(store)
    assert store.fail(batch.id, [("invalid_json_line", "no", 3, None), ("x", "y", None, "url")])
    failed = store.find(batch.id)
    assert failed.status == "failed" and not failed.is_open
    assert failed.errors[0].line == 3
    assert failed.errors[1].param == "url"
    with pytest.raises(HasEnded):
        store.cancel("alice", batch.id)


def test_store_limits_the_open_batches_of_a_key(store):
    first = add_batch(store, max_open=1)
    with pytest.raises(TooManyOpen):
        add_batch(store, max_open=1)
    add_batch(store, "bob", max_open=1)
    store.fail(first.id, [])
    add_batch(store, max_open=1)


def test_store_finds_neither_files_nor_batches_of_others(store):
    batch = add_batch(store)
    assert store.get("bob", batch.id) is None
    assert store.cancel("bob", batch.id) is None
    assert store.page("bob", limit=5) == []
    other = {"endpoint": "/v1/embeddings", "completion_window": "1h", "seconds": 3600}
    assert store.create("bob", input_file_id=batch.input_file_id, **other) is None


def test_store_pages_batches_newest_first(store):
    batches = [add_batch(store) for _ in range(5)][::-1]
    assert store.page("alice", limit=2) == batches[:2]
    assert store.page("alice", limit=9, after=batches[1]) == batches[2:]


def test_store_leaves_a_batch_open_if_its_results_cannot_be_written(store, monkeypatch):
    batch = add_batch(store)
    store.begin(batch.id, total=1, model=None)
    store.append(batch.id, [Result(1, b"one", False)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.finish(batch.id, "completed")
    assert store.find(batch.id).status == "in_progress"
    assert names(store) == {batch.input_file_id}
    ended = store.finish(batch.id, "completed")
    assert store.files.path(ended.output_file_id).read_bytes() == b"one\n"


def test_store_refuses_a_database_of_a_later_version(store):
    add_file(store)
    store.close()
    with sqlite3.connect(store.folder / "batches.sqlite") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="version 2"):
        store.open_batches()


def _append_forever(folder: Path, id: str, pipe: Connection) -> None:
    store = BatchStore(folder)
    upload = store.files.begin("alice")
    upload.write(b"never kept")
    line = 0
    while True:
        line += 1
        store.append(id, [Result(line, str(line).encode(), False, (1, 0, 1, 0))])
        pipe.send(line)


@pytest.mark.slow
def test_store_has_what_was_appended_before_a_kill_and_removes_what_was_not_kept(store):
    batch = add_batch(store)
    store.begin(batch.id, total=10_000, model=None)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_append_forever, args=(store.folder, batch.id, theirs))
    process.start()
    theirs.close()
    try:
        while ours.recv() < 20:
            pass
        live = {name for name in names(store) if name.endswith(".part")}
        store.clean()
        assert {name for name in names(store) if name.endswith(".part")} == live != set()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    told = 20
    try:
        while ours.poll():
            told = ours.recv()
    except EOFError:
        pass
    done = store.done_lines(batch.id)
    assert done == set(range(1, len(done) + 1))
    assert len(done) in (told, told + 1)
    assert store.find(batch.id).completed == store.find(batch.id).input_tokens == len(done)
    store.clean()
    assert names(store) == {batch.input_file_id}
    assert store.files.used("alice") == 1024
