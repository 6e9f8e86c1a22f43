"""Batches of a real node, of which something ends: each line has one result all the same."""

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest
from support.batches import (
    CHAT_URL,
    add,
    config_with,
    ended,
    find,
    lines_of,
    pid_of_batches,
    tiny_chat,
    tiny_node,
    wait_for,
)
from support.node_process import NodeProcess, is_running

from mlxnode.batches.database import database_file
from mlxnode.batches.store import BatchStore
from mlxnode.figures import RequestFigures
from mlxnode.process.status_socket import read_status

pytestmark = pytest.mark.slow


def wait_for_more(store: BatchStore, id: str) -> None:
    """Until more lines have a result than now."""
    before = find(store, id).completed
    wait_for(lambda: find(store, id).completed > before)


@pytest.mark.long
@pytest.mark.timeout(400)  # on a machine that is busy
def test_batch_outlives_each_process_and_the_node(tmp_path, store):
    num = 160
    id = add(store, CHAT_URL, [tiny_chat(f"Count to {i}", 200) for i in range(num)])
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        pids: list[Callable[[], int]] = [
            lambda: pid_of_batches(node),
            node.engine_pid,
            lambda: node.worker_pids()[0],
        ]
        for pid_of in pids:
            wait_for_more(store, id)
            pid = pid_of()
            os.kill(pid, signal.SIGKILL)
            node.wait_for_log(rf"\(pid {pid}\) ended: SIGKILL")
        wait_for_more(store, id)
        children = node.child_pids()
        node.process.kill()
        node.process.wait()
        wait_for(lambda: not any(map(is_running, children)))
    assert find(store, id).is_open
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        batch = ended(store, id)
    assert (batch.status, batch.completed, batch.failed) == ("completed", num, 0)
    assert list(lines_of(store, batch.output_file_id)) == [f"r{i}" for i in range(num)]


@contextlib.contextmanager
def engine_dies_of(node: NodeProcess, is_poison: Callable[[RequestFigures], bool]) -> Iterator:
    """Within the block, the engine of ``node`` dies whenever it works on such a request."""
    stopped, deaths, known = threading.Event(), [], set()

    def watch() -> None:
        port = int(node.url.rpartition(":")[2])
        while not stopped.wait(0.02):
            engine = node.engine_pid()
            if engine in deaths:  # the next one has not started
                continue
            # The figures may be of a moment before the last death.
            poison = {one.id for one in read_status(port).requests if is_poison(one)}
            if poison - known:
                known.update(poison)
                deaths.append(engine)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(engine, signal.SIGSEGV)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield deaths
    finally:
        stopped.set()
        watcher.join()


@pytest.mark.long
@pytest.mark.timeout(400)  # on a machine that is busy
def test_line_of_which_the_engine_dies_is_an_error_and_the_others_are_answered(tmp_path, store):
    bodies = [tiny_chat(f"Count to {i}", 60) for i in range(40)]
    bodies[5] = tiny_chat("Poison", 8000)
    id = add(store, CHAT_URL, bodies)
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        with engine_dies_of(node, lambda request: request.completion_tokens > 60) as deaths:
            batch = ended(store, id)
    assert (batch.status, batch.completed, batch.failed) == ("completed", 39, 1)
    [(custom_id, line)] = lines_of(store, batch.error_file_id).items()
    assert custom_id == "r5" and line["response"]["status_code"] == 500
    assert "failed each time" in line["response"]["body"]["error"]["message"]
    assert 2 <= len(deaths) <= 6


def expire(store: BatchStore, id: str) -> None:
    """Its time is over now."""
    with contextlib.closing(sqlite3.connect(database_file(store.folder))) as connection:
        connection.execute("UPDATE batches SET expires_at = 1 WHERE id = ?", (id,))
        connection.commit()


@pytest.mark.long
def test_batch_expires_in_a_running_node_and_in_one_that_is_off(tmp_path, store):
    bodies = [tiny_chat(f"Count to {i}", 8000) for i in range(30)]
    before = add(store, CHAT_URL, bodies, seconds=-1)
    running = add(store, CHAT_URL, [tiny_chat("Hi", 4), *bodies])
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        assert ended(store, before).status == "expired"
        wait_for(lambda: find(store, running).completed)
        expire(store, running)
        batch = ended(store, running)
    assert (batch.status, batch.completed, batch.failed) == ("expired", 1, 30)
    assert list(lines_of(store, batch.output_file_id)) == ["r0"]
    errors = lines_of(store, batch.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"batch_expired"}


ALICE = '[api.keys.alice]\nkey = "sk-alice-0123456789"'


@pytest.mark.long
def test_lines_of_a_key_that_is_removed_are_refused(tmp_path, store):
    # Far more than the lines that are under way when the key is removed.
    bodies = [tiny_chat(f"Count to {i}", 200) for i in range(600)]
    id = add(store, CHAT_URL, bodies, owner="alice")
    with tiny_node(tmp_path, ALICE) as node:
        node.wait_ready()
        wait_for(lambda: find(store, id).completed)
        (tmp_path / "config.toml").write_text(config_with())
        node.process.send_signal(signal.SIGHUP)
        batch = ended(store, id)
    assert batch.status == "completed" and batch.completed + batch.failed == 600
    errors = lines_of(store, batch.error_file_id)
    assert batch.completed and errors
    assert {line["response"]["status_code"] for line in errors.values()} == {401}
