"""A real worker process; the test is its supervisor and its engine.

The process and its socket are real, so are the pipes. What the engine answers is scripted
by each test: ``worker.engine.answer`` and the hooks below.
"""

import contextlib
import multiprocessing
import queue
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import openai
import pytest
from support import tiny
from tokenizers import Tokenizer

from mlxnode.config.keys import ApiKey, digest_of
from mlxnode.config.tables import ApiConfig, NodeConfig, ServerConfig
from mlxnode.messages import (
    Abort,
    ChildToSupervisor,
    Connect,
    Connected,
    Embed,
    Embedded,
    Generate,
    Limit,
    Ping,
    Pong,
    Ready,
    Reserve,
    Reserved,
    Settle,
    Token,
    Tokens,
    Update,
    Used,
    WorkerToEngine,
)
from mlxnode.models.served import ServedModel
from mlxnode.process.pipe import Pipe
from mlxnode.server.worker import run_worker

KEY = "sk-test-0123456789abcdef"
NARROW_KEY = "sk-narrow-0123456789abcd"  # of the table "narrow", for org/tiny-text alone
ORIGIN = "http://localhost:3000"
WAIT = 20.0  # seconds; only a failing test waits that long


class FakeEngine:
    """The engine's end of the data pipe. Answers ``answer``, a byte a token."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._pipe: Pipe | None = None
        self._last_uid = 0
        self.reset()

    def reset(self) -> None:
        self.answer = "Hello!"
        self.is_silent = False
        self.step = 1  # tokens in an update
        self.received: queue.Queue[WorkerToEngine] = queue.Queue()
        self.on_generate: Any = self.say
        self._first_uid = self._last_uid + 1  # what is older belongs to an earlier test

    def connect(self, connection: Connection) -> None:
        self._pipe = Pipe(connection, WorkerToEngine, self._on_message, lambda: None).start()

    def disconnect(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def next(self, kind: type) -> Any:
        """Wait for the next message of ``kind``; others before it are dropped."""
        while True:
            message = self.received.get(timeout=WAIT)
            if isinstance(message, kind):
                return message

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def send(self, message: msgspec.Struct) -> None:
        assert self._pipe is not None
        self._pipe.send(message)

    def update(self, uid: int, text: str | list[int], finish: str | None = None) -> None:
        ids = self.ids(text) if isinstance(text, str) else text
        tokens = [Token(id, -1.0) for id in ids]
        self.send(Tokens([Update(uid=uid, tokens=tokens, finish=finish)]))

    def say(self, message: Generate) -> None:
        """All of ``answer``, one step after the other, within the request's max_tokens."""
        ids = self.ids(self.answer)[: message.max_tokens]
        for at in range(0, len(ids), self.step):
            self.update(message.uid, ids[at : at + self.step])
        is_cut = len(ids) == message.max_tokens
        self.update(message.uid, [], "length" if is_cut else "stop")

    def _on_message(self, message: WorkerToEngine) -> None:
        if message.uid < self._first_uid:
            return
        self._last_uid = max(self._last_uid, message.uid)
        self.received.put(message)
        if self.is_silent or isinstance(message, Abort):
            return
        if isinstance(message, Generate):
            self.on_generate(message)
        else:
            self.embed(message)

    def embed(self, message: Embed) -> None:
        """Vectors that tell the inputs apart: their length, then their token ids."""
        dimensions = message.dimensions or 8
        vectors = np.zeros((len(message.inputs), dimensions), "<f4")
        for row, ids in zip(vectors, message.inputs, strict=True):
            row[:] = ([len(ids), *ids] + [0] * dimensions)[:dimensions]
        self.send(Embedded(message.uid, dimensions, vectors.tobytes()))


class WorkerProcess:
    """A worker under test, started and ended here."""

    key = KEY
    narrow_key = NARROW_KEY
    origin = ORIGIN
    headers: ClassVar = {"authorization": f"Bearer {KEY}"}

    def __init__(
        self,
        config: NodeConfig,
        models: list[ServedModel],
        keys: list[ApiKey],
        store_folder: Path | None = None,
    ):
        self.engine = FakeEngine(Tokenizer.from_file(str(models[0].folder / "tokenizer.json")))
        self.events: queue.Queue[ChildToSupervisor] = queue.Queue()
        self._clients: list[openai.OpenAI] = []
        self.reset()
        self._generation = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        self.process = context.Process(
            target=run_worker,
            args=(theirs, 0, self._listener, config, models, keys, store_folder),
        )
        self.process.start()
        theirs.close()
        self._connection = ours
        self.gone = threading.Event()
        self._control = Pipe(ours, ChildToSupervisor, self._on_message, self.gone.set).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self._close_clients()
        self.refuse: Reserved | None = None
        self.num_refusals = 1_000_000
        self.settled: queue.Queue[Settle] = queue.Queue()
        self.reserved: queue.Queue[Reserve] = queue.Queue()
        self.used: queue.Queue[Used] = queue.Queue()
        self.engine.reset()

    def settle(self) -> None:
        """Forget the test before: the answer to a ping comes after all that it caused."""
        self.send(Ping(0))
        self.wait_for(Pong)
        self.reset()

    def send(self, message: msgspec.Struct) -> None:
        self._control.send(message)

    def wait_for(self, kind: type) -> Any:
        while True:
            message = self.events.get(timeout=WAIT)
            if isinstance(message, kind):
                return message

    def connect_engine(self) -> None:
        self.engine.disconnect()
        ours, theirs = multiprocessing.Pipe(duplex=True)
        self._generation += 1
        self.engine.connect(ours)
        self._control.send(Connect(self._generation), theirs.fileno())
        assert self.wait_for(Connected).pipe_id == self._generation
        theirs.close()

    def client(self, **options: Any) -> openai.OpenAI:
        options = {"api_key": KEY, "max_retries": 0, "timeout": WAIT} | options
        self._clients.append(openai.OpenAI(base_url=f"{self.url}/v1", **options))
        return self._clients[-1]

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        options = {"api_key": KEY, "max_retries": 0, "timeout": WAIT} | options
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **options)

    def hang_up(self) -> None:
        """What the worker sees when the supervisor is killed."""
        self._control.close()

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def close(self) -> None:
        self._close_clients()
        self.hang_up()
        self.engine.disconnect()
        self._listener.close()
        self.process.join(10)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()

    def _on_message(self, message: ChildToSupervisor) -> None:
        if isinstance(message, Reserve):
            self.reserved.put(message)
            self.send(self._answer(message))
        elif isinstance(message, Settle):
            self.settled.put(message)
        elif isinstance(message, Used):
            self.used.put(message)
        else:
            self.events.put(message)

    def _answer(self, message: Reserve) -> Reserved:
        if self.refuse is not None and self.num_refusals > 0:
            self.num_refusals -= 1
            return msgspec.structs.replace(self.refuse, ticket=message.ticket)
        limits = Limit(60, 59, 1.0), Limit(100_000, 99_000, 0.6)
        return Reserved(message.ticket, None, 0.0, *limits)


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    """A chat, a completion and an embedding model, all with the byte tokenizer."""
    chat = tiny.make_chat_model(tmp_path_factory.mktemp("models") / "chat")
    embedding = tiny.make_chat_model(
        tmp_path_factory.mktemp("models") / "embedding", context=64
    )

    def serve(id: str, type: str, folder: Path, **facts: Any) -> ServedModel:
        return ServedModel(
            **{
                "id": id,
                "type": type,
                "folder": folder,
                "weights": folder,
                "architecture": "llama",
                "context_length": 1024,
                "dimensions": None,
                "default_temperature": None,
                "size_bytes": 1,
                "created": 1_700_000_000,
            }
            | facts
        )

    return [
        serve("tiny-chat", "chat", chat, default_temperature=0.7),
        serve("org/tiny-text", "completion", chat),
        serve("tiny-embedding", "embedding", embedding, dimensions=8, matryoshka=(4,)),
    ]


@pytest.fixture(scope="session")
def start_worker() -> Any:
    """A context manager that starts a worker of its own for a test that ends it."""
    return started_worker


@contextlib.contextmanager
def started_worker(
    models: list[ServedModel],
    api: dict[str, Any],
    server: dict[str, Any] | None = None,
    until: type | None = Ready,
    store_folder: Path | None = None,
) -> Iterator[WorkerProcess]:
    config = NodeConfig(api=ApiConfig(**api), server=ServerConfig(**(server or {})))
    narrow = ApiKey("narrow", digest_of(NARROW_KEY), frozenset({"org/tiny-text"}))
    keys = [ApiKey.unnamed(KEY), ApiKey.unnamed("sk-another-key-0123456789"), narrow]
    worker = WorkerProcess(config, models, keys, store_folder)
    try:
        worker.started = until and worker.wait_for(until)
        yield worker
    finally:
        worker.close()


@pytest.fixture(scope="session")
def full_worker(served_models: list[ServedModel]) -> Iterator[WorkerProcess]:
    api = {
        "max_requests_per_minute": 60,
        "max_tokens_per_minute": 100_000,
        "cors_enabled": True,
        "cors_origins": [ORIGIN],
    }
    with started_worker(served_models, api, {"max_body_bytes": 1_000_000}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture(scope="session")
def open_worker(served_models: list[ServedModel]) -> Iterator[WorkerProcess]:
    with started_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def worker(full_worker: WorkerProcess) -> WorkerProcess:
    """A worker with keys, limits and CORS, and an engine that says "Hello!"."""
    full_worker.settle()
    return full_worker


@pytest.fixture
def plain_worker(open_worker: WorkerProcess) -> WorkerProcess:
    """A worker without any of these."""
    open_worker.settle()
    return open_worker


@pytest.fixture
def own_worker(start_worker, served_models):
    """A worker that the test may end."""
    with start_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker
