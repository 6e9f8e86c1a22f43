"""The status socket, and the figures as text."""

import os
import socket
import stat
import threading
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest

from mlxnode.errors import ConfigError, StatusError
from mlxnode.figures import (
    EngineFigures,
    MemoryFigures,
    ModelFigures,
    Moment,
    NodeFigures,
    ProcessFigures,
    RunnerFigures,
)
from mlxnode.process import status_socket
from mlxnode.process.status_socket import StatusSocket, ask_reload, read_status, status_path
from mlxnode.process.status_text import status_text

PORT = 65_000
MEMORY = MemoryFigures(
    limit=22 * 10**9,
    active=9 * 10**9,
    peak=10 * 10**9,
    buffer_cache=5 * 10**6,
    buffer_cache_limit=2 * 10**9,
    wired_limit=0,
    footprint=11 * 10**9,
    kv_total=8 * 10**9,
    kv_claimed=10**9,
    pressure="admission paused",
)


def figures(num_models: int = 1, **changes) -> NodeFigures:
    work = RunnerFigures(
        num_running=3,
        num_waiting=2,
        prompt_tokens=1000,
        cached_tokens=400,
        generated_tokens=77,
        prefix_bytes=2 * 10**8,
        prefix_entries=4,
    )
    model = ModelFigures(id="mine", weight_bytes=9 * 10**9, work=work)
    fields = {
        "version": "1.2.3",
        "address": "127.0.0.1:8080",
        "pid": 100,
        "uptime": 3700.0,
        "descriptor_limit": 10_240,
        "is_draining": False,
        "failed_models": {},
        "processes": [
            ProcessFigures(name="engine", state="ready", pid=101, starts=2, uptime=61.0),
            ProcessFigures(
                name="worker 0", state="not running", pid=None, starts=1, uptime=None
            ),
        ],
        "engine": EngineFigures(memory=MEMORY, models=[model] * num_models),
    }
    return NodeFigures(**(fields | changes))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of the sockets."""
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path))
    return tmp_path / "run"


@pytest.fixture
def served():
    """Open a status socket that is closed at the end."""
    opened = []

    def serve(shown: NodeFigures, port: int = PORT) -> StatusSocket:
        opened.append(StatusSocket(port, lambda: shown))
        opened[-1].open()
        return opened[-1]

    yield serve
    for one in opened:
        one.close()


def test_status_socket_tells_the_figures_to_each_client(served):
    served(figures())
    assert read_status(PORT) == read_status(PORT) == figures()


def test_status_socket_is_the_owners_alone(served, folder):
    folder.mkdir(mode=0o755)
    served(figures())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(status_path(PORT).stat().st_mode) == 0o600


def test_status_socket_is_removed_at_the_end(served):
    served(figures()).close()
    assert not status_path(PORT).exists()
    with pytest.raises(StatusError, match=f"no node answers on port {PORT}"):
        read_status(PORT)


def test_status_socket_replaces_the_one_of_a_killed_node(served, folder):
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(status_path(PORT)))
    with pytest.raises(StatusError, match="refused"):
        read_status(PORT)
    served(figures())
    assert read_status(PORT) == figures()


def test_status_socket_of_a_node_that_answers_is_kept(served, caplog):
    served(figures())
    second = served(figures(version="2"))
    assert "another node on this port answers" in caplog.text
    second.close()
    assert read_status(PORT).version == "1.2.3"


def test_status_socket_is_not_made_in_a_folder_that_is_a_link(served, folder, caplog):
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")
    served(figures())
    assert "is not a folder of this user" in caplog.text
    assert not status_path(PORT).exists()


def test_status_socket_drops_a_client_that_does_not_read(served, monkeypatch):
    monkeypatch.setattr(status_socket, "CLIENT_TIMEOUT", 0.2)
    large = figures(num_models=5000)  # more than the buffers of a socket
    served(large)
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(status_path(PORT)))
        assert read_status(PORT) == large


def test_status_socket_goes_on_after_clients_that_hang_up(served):
    served(figures(num_models=5000))
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(status_path(PORT)))
    assert read_status(PORT).version == "1.2.3"


def test_status_of_another_version_is_told(folder):
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(status_path(PORT)))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100) == b"status\n"
                connection.sendall(b'{"version": 7}')

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StatusError, match="another version"):
            read_status(PORT)
        thread.join()


@pytest.mark.parametrize("length", [10, 60, 200])
def test_status_path_fits_the_limit_of_macos(monkeypatch, length):
    monkeypatch.setenv("MLXNODE_CACHE", "/" + "c" * length)
    path = status_path(PORT)
    assert len(str(path)) <= 103
    assert str(path).startswith("/ccc") == (length < 100)
    monkeypatch.setattr("tempfile.tempdir", "/" + "t" * 200)
    assert len(str(status_path(PORT))) <= 103


# --- text ---------------------------------------------------------------------------------


def test_status_text_is_aligned_and_has_units():
    lines = status_text(figures()).splitlines()
    assert lines[0].startswith("mlxnode 1.2.3 at 127.0.0.1:8080, up 1 h 1 min, pid 100")
    processes = [line.split() for line in lines if line.startswith(("engine", "worker"))]
    assert processes == [
        ["engine", "101", "ready", "1", "min", "1", "s", "2"],
        ["worker", "0", "-", "not", "running", "-", "1"],
    ]
    text = "\n".join(lines)
    assert "active        9.00 GB, peak 10.00 GB" in text
    assert "buffer cache  5.0 MB of 2.00 GB" in text
    assert "1.00 GB of 8.00 GB claimed, 0.20 GB for prefixes" in text
    assert "pressure      admission paused" in text
    assert lines[-1].split() == [
        "mine",
        "loaded",
        "9.00",
        "GB",
        "3",
        "2",
        "1000",
        "400",
        "77",
        "4",
    ]


def test_status_text_without_an_engine_says_so():
    text = status_text(figures(engine=None, is_draining=True))
    assert "draining" in text.splitlines()[0]
    assert text.endswith("The engine has reported no figures yet.")


def test_figures_survive_the_message_format():
    encoded = msgspec.msgpack.encode(figures())
    assert msgspec.msgpack.decode(encoded, type=NodeFigures) == figures()


def test_status_has_a_path_where_no_folder_takes_a_file(monkeypatch, tmp_path):
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / ("long" * 40)))
    monkeypatch.setattr("tempfile.gettempdir", refuse)
    assert status_path(8080).parent == Path("/tmp") / f"mlxnode-{os.getuid()}"


# --- reload -------------------------------------------------------------------------------


@pytest.fixture
def asked(served):
    """The answers of a node whose status socket is open, one for each reload."""
    answers: list[Future] = []

    def reload() -> Future:
        answers.append(Future())
        return answers[-1]

    socket_ = StatusSocket(PORT, figures, reload)
    socket_.open()
    yield answers
    socket_.close()


def ask_in_thread() -> tuple[threading.Thread, list]:
    got: list = []

    def ask() -> None:
        try:
            got.append(ask_reload(PORT))
        except Exception as error:  # for the test to look at
            got.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, got


def wait_for(answers: list, count: int) -> None:
    paused = threading.Event()
    assert any(len(answers) >= count or paused.wait(0.02) for _ in range(500))


def test_a_reload_is_answered_with_the_changes(asked):
    thread, got = ask_in_thread()
    wait_for(asked, 1)
    asked[0].set_result(["new models: a"])
    thread.join(10)
    assert got == [["new models: a"]]


def test_a_reload_that_takes_long_keeps_its_client_and_holds_up_no_other(asked, monkeypatch):
    monkeypatch.setattr(status_socket, "READ_TIMEOUT", 1.0)
    monkeypatch.setattr(status_socket, "_KEEP_ALIVE", 0.1)
    thread, got = ask_in_thread()
    wait_for(asked, 1)
    thread.join(1.5)  # longer than a client waits for a node that is silent
    assert got == [] and read_status(PORT) == figures()
    asked[0].set_result([])
    thread.join(10)
    assert got == [[]]


def test_a_reload_of_a_wrong_configuration_says_why(asked):
    thread, got = ask_in_thread()
    wait_for(asked, 1)
    asked[0].set_exception(ConfigError("f.toml: api.x: unknown key"))
    thread.join(10)
    assert isinstance(got[0], ConfigError) and str(got[0]) == "f.toml: api.x: unknown key"


def test_a_reload_of_a_node_that_ends_is_no_error_of_the_configuration(asked):
    thread, got = ask_in_thread()
    wait_for(asked, 1)
    asked[0].set_exception(StatusError("the node is ending"))
    thread.join(10)
    assert isinstance(got[0], StatusError) and str(got[0]) == "the node is ending"


def test_a_client_of_a_reload_that_leaves_ends_nothing(asked):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(status_path(PORT)))
        client.sendall(b"reload\n")
        wait_for(asked, 1)
    asked[0].set_result([])
    assert read_status(PORT) == figures()


@pytest.mark.parametrize("request_", [b"stat\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 200])
def test_an_unknown_request_is_told(served, request_):
    served(figures())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(status_path(PORT)))
        client.sendall(request_)
        assert b"unknown request" in client.recv(1000)


def test_a_client_that_writes_nothing_is_dropped(served, monkeypatch):
    monkeypatch.setattr(status_socket, "CLIENT_TIMEOUT", 0.2)
    served(figures())
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(status_path(PORT)))
        assert read_status(PORT) == figures()
        assert idle.recv(10) == b""


def test_status_socket_tells_the_history_to_those_that_ask(served):
    shown = figures(history=[Moment(running=1), Moment(running=2)])
    served(shown)
    assert read_status(PORT, with_history=True) == shown
    assert read_status(PORT) == figures()
