"""Garbage, halves of messages and silence on the pipes: one pipe ends, the rest goes on."""

import multiprocessing
import struct
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2 as httpx
import msgspec
import pytest
from support import tiny
from support.engine_process import EngineProcess, generate, serve_tiny
from support.worker_process import WorkerProcess, started_worker

from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import Connect, Connected
from mlxnode.messages.data import Tokens, Update

pytestmark = pytest.mark.slow

# What a broken writer can leave in a pipe: the bytes, length header included.
BROKEN: dict[str, bytes] = {
    "no message": struct.pack("!i", 9) + b"\xff garbage"[:9],
    "another message": struct.pack("!i", 9) + msgspec.msgpack.encode(["Fatal", "x"]),
    "half a message": struct.pack("!i", 1000) + b"half",
    "half a header": b"\0\0",
    "a negative length": struct.pack("!i", -5),
    "a huge length": struct.pack("!i", -1) + struct.pack("!Q", 1 << 62),
    "an empty message": struct.pack("!i", 0),
    "deep lists": struct.pack("!i", 100_000) + b"\x91" * 100_000,
}

# The rest may still come, as long as the writer lives.
UNFINISHED = ("half a message", "half a header", "an empty message", "a huge length")


def write(connection: Connection, data: bytes) -> None:
    import socket

    pair = socket.socket(fileno=connection.fileno())
    try:
        pair.sendall(data)
    except OSError:
        pass  # the other side has closed the pipe in the middle
    finally:
        pair.detach()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(NodeConfig(), [serve_tiny(folder)])
    process.wait_ready()
    yield process
    process.stop()


@pytest.fixture
def bare(engine: EngineProcess) -> Iterator[Callable[[], Connection]]:
    """Makes worker's ends of data pipes without a reader."""
    made: list[Connection] = []

    def connect() -> Connection:
        ours, theirs = multiprocessing.Pipe(duplex=True)
        made.append(ours)
        engine._generation += 1
        engine.control.pipe.send(Connect(engine._generation), theirs.fileno())
        assert engine.control.receive() == Connected(engine._generation)
        theirs.close()
        return ours

    yield connect
    for connection in made:
        connection.close()


@pytest.mark.parametrize("name", BROKEN)
def test_engine_drops_a_broken_data_pipe_and_serves_the_others(engine, bare, name):
    other = engine.connect()
    other.send(generate(1, max_tokens=200))
    broken = bare()
    broken.send_bytes(msgspec.msgpack.encode(generate(2, max_tokens=400)))
    write(broken, BROKEN[name])
    if name in UNFINISHED:
        broken.close()
    assert len(other.tokens(1)[1]) == 200
    other.pipe.close()
    assert engine.process.exitcode is None


def test_engine_waits_for_no_worker_that_does_not_read(engine, bare):
    silent, other = bare(), engine.connect()
    for uid in range(20):
        silent.send_bytes(msgspec.msgpack.encode(generate(uid, max_tokens=480)))
    for uid in range(5):
        other.send(generate(uid, max_tokens=100))
        assert len(other.tokens(uid)[uid]) == 100
    other.pipe.close()


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in UNFINISHED])
def test_engine_ends_with_its_control_pipe(folder, name):
    process = EngineProcess(NodeConfig(), [serve_tiny(folder)])
    try:
        process.wait_ready()
        write(process.control.pipe._connection, BROKEN[name])
        process.process.join(60)
        assert process.process.exitcode == 0
    finally:
        process.stop()


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[WorkerProcess]:
    with started_worker([serve_tiny(folder)], {"require_auth": False}) as started:
        started.connect_engine()
        yield started


@pytest.mark.parametrize("name", BROKEN)
def test_worker_drops_a_broken_engine_and_takes_the_next(worker, name):
    connection = worker.engine._pipe._connection
    write(connection, BROKEN[name])
    worker.connect_engine()
    worker.engine.reset()
    answer = worker.client().completions.create(model="tiny", prompt="x")
    assert answer.choices[0].text == "Hello!"


def test_worker_ignores_tokens_that_it_did_not_ask_for(worker):
    worker.connect_engine()
    for uid in (0, 10**9, -1):
        worker.engine.send(Tokens([Update(uid=uid, finish="stop")]))
    assert httpx.get(f"{worker.url}/health").status_code == 200
