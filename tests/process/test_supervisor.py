"""The supervisor over fake children, in a process of its own."""

import errno
import os
import resource
import signal
import socket
import threading
import time

import pytest
from support.fake_node import TIMEOUT
from support.node_process import is_running

from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import Access
from mlxnode.process.child import LOAD_SILENCE, START_TIMEOUT, Child
from mlxnode.process.supervisor import Supervisor

pytestmark = pytest.mark.slow


def test_supervisor_connects_each_worker_with_the_engine(start):
    node = start()
    assert node.wait_ready() == "light"  # neither mlx nor sanic nor numpy
    for index in (0, 1):
        (name,) = [f.name for f in node.folder.glob(f"worker{index}-*-connected-*")]
        assert list(node.folder.glob("engine-*" + name[name.index("-conn") :]))


def test_supervisor_tells_all_workers_which_models_failed(start):
    (start.folder / "engine-fails-other").touch()
    node = start()
    node.wait_ready()
    for name in ("worker0", "worker1"):
        node.wait_for(name, "told-other")
    node.undo("engine", "fails-other")
    node.order("worker0", "fails-folder")
    for told in start.folder.glob("*-told-none"):
        told.unlink()  # by a worker that was ready before the first engine
    (engine,) = node.wait_for("engine", "started")
    os.kill(engine, signal.SIGKILL)
    for name in ("worker0", "worker1"):
        node.wait_for(name, "told-none")  # the next engine can load it
    (worker, *_) = node.wait_for("worker0", "started")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker1", "told-folder")  # what one worker cannot serve, none does
    assert node.process.poll() is None


def test_supervisor_tells_all_workers_of_a_model_that_fails_later_and_goes_on(start, folder):
    node = start(require_all_models=True)
    node.wait_ready()
    (folder / "engine-load-fails").touch()
    for name in ("worker0", "worker1"):
        node.wait_for(name, "told-other")
    assert node.process.poll() is None


@pytest.mark.parametrize("strict", [False, True])
def test_supervisor_ends_if_no_model_is_left_or_all_are_required(start, strict):
    (start.folder / "engine-fails-other").touch()
    if not strict:
        (start.folder / "worker1-fails-folder").touch()
    node = start(require_all_models=strict)
    assert node.process.wait(TIMEOUT) == 1
    text = node.process.stderr.read()
    assert "engine says so" in text
    assert strict or "worker1 says so" in text


@pytest.mark.parametrize("hard", [None, 1024])
def test_supervisor_raises_the_soft_limit_of_descriptors(start, hard):
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    node = start(descriptors=(256, hard or own))
    node.wait_ready()
    allowed = hard or (65_536 if own == resource.RLIM_INFINITY else min(own, 65_536))
    for name in ("engine", "worker0", "worker1"):
        node.wait_for(name, f"descriptors-{allowed}")


def test_supervisor_replaces_a_killed_engine_and_connects_the_running_workers(start):
    node = start()
    node.wait_ready()
    (engine,) = node.wait_for("engine", "started")
    workers = node.wait_for("worker?", "started", 2)
    os.kill(engine, signal.SIGKILL)
    engines = node.wait_for("engine", "started", 2)
    assert engines[0] != engines[1]
    for index in (0, 1):
        first, second = node.wait_for(f"worker{index}", "connected-*", 2)
        assert first == second
    assert all(is_running(pid) for pid in workers)


def test_supervisor_replaces_a_killed_worker_and_leaves_the_others(start):
    node = start()
    node.wait_ready()
    (killed,) = node.wait_for("worker0", "started")
    os.kill(killed, signal.SIGKILL)
    _, replaced = node.wait_for("worker0", "connected-*", 2)
    assert replaced != killed
    assert len(node.wait_for("worker1", "connected-*")) == 1
    assert len(node.wait_for("engine", "connected-*", 3)) == 3


def test_supervisor_becomes_ready_although_a_worker_dies_while_it_is_connected(start, folder):
    (folder / "worker0-vanish").touch()
    node = start()
    node.wait_ready()
    assert len(node.wait_for("worker0", "connected-*")) == 1


@pytest.mark.long
def test_supervisor_that_was_stopped_with_its_children_keeps_them(start):
    node = start(hang_timeout=2.0)
    node.wait_ready()
    before = set(node.pids())
    os.killpg(node.process.pid, signal.SIGSTOP)
    threading.Event().wait(2.5)  # longer than the hang timeout
    os.killpg(node.process.pid, signal.SIGCONT)
    node.order(
        "worker0", "hang"
    )  # once this silence is noticed, the silence of the others would be, too
    (hung,) = {node.wait_for("worker0", "started", 2)[0]}
    node.undo("worker0", "hang")
    assert before - set(node.pids()) == {hung}


def test_supervisor_replaces_a_hung_child(start):
    node = start(hang_timeout=2.0)
    node.wait_ready()
    (hung,) = node.wait_for("engine", "started")
    node.order("engine", "hang")
    engines = node.wait_for("engine", "started", 2)
    node.undo("engine", "hang")
    assert hung in engines
    assert not is_running(hung)


@pytest.mark.long
def test_supervisor_tells_the_workers_of_a_silent_engine_before_it_is_replaced(start):
    node = start(hang_timeout=60.0)
    node.wait_ready()
    node.order("engine", "hang")
    node.wait_for("worker?", "silent", 2)
    (worker,) = node.wait_for("worker0", "started")
    os.kill(worker, signal.SIGKILL)
    node.wait_for("worker0", "silent", 2)  # the next one hears of it as well
    node.undo("engine", "hang")
    node.wait_for("worker?", "heard", 2)
    assert len(node.wait_for("engine", "started")) == 1


def test_supervisor_serves_without_a_model_that_ends_each_engine(start, folder):
    (folder / "engine-dies-other").touch()
    node = start()
    node.wait_ready()
    for name in ("worker0", "worker1"):
        node.wait_for(name, "told-other")
    (engine,) = node.wait_for("engine", "started")
    node.undo("engine", "dies-other")
    os.kill(engine, signal.SIGKILL)
    node.wait_for("engine", "started", 2)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 0
    text = node.process.stderr.read()
    assert "api.models.other cannot be served: the engine dies while it loads" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_supervisor_drains_the_workers_then_stops_the_engine(start, number):
    node = start()
    node.wait_ready()
    os.killpg(node.process.pid, number)  # to all, as terminals and some service managers do
    assert node.process.wait(TIMEOUT) == 0
    drained = [file.stat().st_mtime_ns for file in node.folder.glob("worker*-drained")]
    (stopped,) = [file.stat().st_mtime_ns for file in node.folder.glob("engine-*-stopped")]
    assert len(drained) == 2
    assert stopped > max(drained)
    assert node.is_gone()


def test_supervisor_ends_while_the_engine_loads(start, folder):
    (folder / "engine-load").touch()
    node = start()
    node.wait_for("engine", "started")
    node.wait_for("worker?", "started", 2)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 0
    assert node.is_gone()


@pytest.mark.long
def test_supervisor_kills_what_does_not_end_in_time(start):
    node = start(drain_timeout=0.0)
    node.wait_ready()
    node.order("worker1", "linger")
    (engine,) = node.wait_for("engine", "started")
    os.kill(engine, signal.SIGSTOP)  # it cannot even receive the Stop
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(TIMEOUT) == 0
    assert node.is_gone()


def test_supervisor_ends_at_once_at_the_second_signal(start):
    node = start(drain_timeout=600.0)
    node.wait_ready()
    node.order("worker0", "linger")
    node.process.send_signal(signal.SIGTERM)
    node.wait_for("worker0", "drained")
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 128 + signal.SIGTERM
    assert node.is_gone()


def test_supervisor_that_is_killed_leaves_no_child(start):
    node = start()
    node.wait_ready()
    assert len(node.pids()) >= 4
    node.process.kill()
    node.process.wait()
    assert node.is_gone()


@pytest.mark.parametrize("name", ["engine", "worker1"])
def test_supervisor_gives_up_at_a_fatal_error_and_says_why(start, folder, name):
    (folder / f"{name}-fatal").touch()
    node = start()
    assert node.process.wait(TIMEOUT) == 1
    assert f"{name} cannot start" in node.process.stderr.read()
    assert node.is_gone()


def test_supervisor_gives_up_on_a_child_that_never_starts(start, folder):
    (folder / "engine-crash").touch()
    node = start()
    assert node.process.wait(TIMEOUT) == 1
    assert "ended: exit code 3; it does not start" in node.process.stderr.read()


def test_supervisor_gives_up_when_no_process_is_to_be_had(monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuse)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert Supervisor(NodeConfig(), [], Access(keys=[]), listener).run() == 1
    assert f"engine cannot be started: {os.strerror(errno.EAGAIN)}" in caplog.text
    assert "it does not start" in caplog.text


def test_supervisor_goes_on_without_a_descriptor_for_a_pipe(start, folder):
    (folder / "supervisor-short").touch()
    node = start()
    node.wait_ready()
    assert len(node.wait_for("worker?", "started", 3)) == 3
    assert len(node.wait_for("engine", "started")) == 1
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 0
    assert "cannot be connected: Too many open files" in node.process.stderr.read()


def test_supervisor_keeps_the_ledger_across_the_incarnations_of_a_worker(start, folder):
    (folder / "worker0-reserve").touch()
    node = start()
    # Granted only because the first reservation was settled, in the order of the pipe.
    (worker,) = node.wait_for("worker0", "reserved-2-None")
    os.kill(worker, signal.SIGKILL)
    assert node.wait_for("worker0", "reserved-1-tokens") != [worker]


def test_child_can_be_started_after_a_failed_start():
    child = Child("engine", "support.fakes:run_engine", (), lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multiprocessing.util.spawnv_passfds", lambda *_: os.open("/no/file", 0))
        with pytest.raises(OSError, match="No such file"):
            child.start()
    assert not child.is_alive
    child.start()
    try:
        assert child.is_alive
        assert child.incarnation == 2
    finally:
        child.kill()
        child.reap()


def test_child_that_loads_lives_as_long_as_it_works_and_says_on_what():
    child = Child("engine", "support.fakes:run_engine", (), lambda *_: None)
    assert not child.is_hung(time.monotonic() + 10**6, 60)  # it was never started
    child.start()
    try:
        now = time.monotonic()
        assert not child.is_hung(now + LOAD_SILENCE - 1, 2)
        assert child.is_hung(now + LOAD_SILENCE + 1, 2)
        assert not child.is_hung(now + 59, 60)
        assert child.is_hung(now + 61, 60)
        later = now + START_TIMEOUT
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: later)
            child.mark_progress(is_told=False)
            assert not child.is_hung(later - 1, 60)
            assert child.is_hung(later + 1, 60)  # it works for ever on one thing
            child.mark_progress(is_told=True)
            assert not child.is_hung(later + 1, 60)
        child.mark_ready()
        assert not child.is_hung(now + 59, 60)
        assert child.is_hung(now + 61, 60)
    finally:
        child.kill()
        child.reap()


def test_supervisor_keeps_answers_in_a_private_folder_that_ends_with_it(
    start, folder, monkeypatch
):
    monkeypatch.setenv("MLXNODE_CACHE", str(folder / "cache"))
    node = start(response_store=1, metrics="off")
    node.wait_ready()
    (kept,) = (folder / "cache" / "private").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(TIMEOUT) == 0
    assert not kept.exists()


def test_supervisor_says_why_answers_cannot_be_kept(start, folder, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(folder / "cache"))
    (folder / "cache").touch()
    node = start(response_store=1)
    assert node.process.wait(TIMEOUT) == 1
    assert "server.response_store" in node.process.stderr.read()


def test_supervisor_starts_without_a_folder_for_counts_alone(start, folder, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(folder / "cache"))
    (folder / "cache").touch()
    start().wait_ready()
