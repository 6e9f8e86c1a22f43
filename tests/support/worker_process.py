"""A real worker process; the test is its supervisor and its engine.

The process and its socket are real, so are the pipes. What the engine answers is scripted
by each test: ``worker.engine.answer`` and the hooks below.
"""

import contextlib
import multiprocessing
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import openai
from support.fake_engine import WAIT, FakeEngine
from tokenizers import Tokenizer

from mlxnode.config.certificate import Certificate
from mlxnode.config.keys import ApiKey, digest_of
from mlxnode.config.tables import ApiConfig, NodeConfig, ServerConfig
from mlxnode.messages.control import (
    Access,
    ChildToSupervisor,
    Connect,
    Connected,
    Limit,
    Ping,
    Pong,
    Ready,
    Reserve,
    Reserved,
    Settle,
    Usage,
    Used,
)
from mlxnode.models.served import ServedModel
from mlxnode.process.pipe import Pipe
from mlxnode.process.shared import Shared
from mlxnode.server.worker import run_worker

KEY = "sk-test-0123456789abcdef"
NARROW_KEY = "sk-narrow-0123456789abcd"  # of the table "narrow", for org/tiny-text alone
ADMIN_KEY = "sk-admin-0123456789abcdef"
ORIGIN = "http://localhost:3000"


class WorkerProcess:
    """A worker under test, started and ended here."""

    key = KEY
    narrow_key = NARROW_KEY
    admin_key = ADMIN_KEY
    origin = ORIGIN
    headers: ClassVar = {"authorization": f"Bearer {KEY}"}

    def __init__(
        self,
        config: NodeConfig,
        models: list[ServedModel],
        keys: list[ApiKey],
        store_folder: Path | None = None,
        certificate: Certificate | None = None,
        run: Callable[..., None] = run_worker,
        metrics_folder: Path | None = None,
        index: int = 0,
        inner: socket.socket | None = None,
    ):
        tokenizer = Tokenizer.from_file(str(models[0].folder / "tokenizer.json"))
        self.engine = FakeEngine(tokenizer, [model.id for model in models])
        self.keys = keys
        self.events: queue.Queue[ChildToSupervisor] = queue.Queue()
        self._clients: list[openai.OpenAI] = []
        self.reset()
        self._generation = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        is_limited = config.api.is_limited
        access = Access(
            keys=keys,
            is_limited=is_limited,
            certificate=certificate,
            cors_origins=config.api.cors_origins if config.api.cors_enabled else [],
        )
        ours, theirs = context.Pipe(duplex=True)
        shared = Shared(responses=store_folder, metrics=metrics_folder, inner=inner)
        self.process = context.Process(
            target=run,
            args=(
                theirs,
                index,
                self._listener,
                config,
                models,
                access,
                shared,
            ),
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
        self.usages: queue.Queue[Usage] = queue.Queue()
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
        elif isinstance(message, Usage):
            self.usages.put(message)
        else:
            self.events.put(message)

    def _answer(self, message: Reserve) -> Reserved:
        if self.refuse is not None and self.num_refusals > 0:
            self.num_refusals -= 1
            return msgspec.structs.replace(self.refuse, ticket=message.ticket)
        limits = Limit(60, 59, 1.0), Limit(100_000, 99_000, 0.6)
        return Reserved(message.ticket, None, 0.0, *limits)


@contextlib.contextmanager
def started_worker(
    models: list[ServedModel],
    api: dict[str, Any],
    server: dict[str, Any] | None = None,
    until: type | None = Ready,
    store_folder: Path | None = None,
    certificate: Certificate | None = None,
    run: Callable[..., None] = run_worker,
    metrics_folder: Path | None = None,
    index: int = 0,
    inner: socket.socket | None = None,
) -> Iterator[WorkerProcess]:
    api = {"allowed_hosts": ["x"]} | api  # as bare requests call the worker
    config = NodeConfig(api=ApiConfig(**api), server=ServerConfig(**(server or {})))
    narrow = ApiKey("narrow", digest_of(NARROW_KEY), frozenset({"org/tiny-text"}))
    admin = ApiKey("admin", digest_of(ADMIN_KEY), is_admin=True)
    keys = [ApiKey.unnamed(KEY), ApiKey.unnamed("sk-another-key-0123456789"), narrow, admin]
    worker = WorkerProcess(
        config, models, keys, store_folder, certificate, run, metrics_folder, index, inner
    )
    try:
        worker.started = until and worker.wait_for(until)
        yield worker
    finally:
        worker.close()
