"""One HTTP worker process: its event loop, its control pipe, its start and end."""

import asyncio
import contextlib
import functools
import logging
import os
import socket
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import uvloop

from mlxnode.batches.store import BatchStore
from mlxnode.config.tables import BatchesConfig, ModelType, NodeConfig
from mlxnode.errors import StatusError, UsageError
from mlxnode.figures import NodeFigures
from mlxnode.messages.control import (
    Access,
    Busy,
    Cancel,
    Connect,
    Connected,
    Drain,
    EngineSilent,
    FailedModels,
    Fits,
    Models,
    Ping,
    Ranks,
    Ready,
    Reserved,
    Stop,
    SupervisorToChild,
    Wake,
)
from mlxnode.models.served import ServedModel
from mlxnode.process import garbage
from mlxnode.process.batch_process import batches_folder
from mlxnode.process.logging import set_up_logging
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import stop_pulse
from mlxnode.process.shared import Shared
from mlxnode.process.signals import ignore_signals
from mlxnode.process.status_socket import read_status
from mlxnode.process.usage_file import UsageRow, read_usage, usage_path
from mlxnode.server.client.engine_client import EngineClient
from mlxnode.server.errors import Unavailable
from mlxnode.server.http.auth import Keyring
from mlxnode.server.http.context import WorkerContext
from mlxnode.server.http.cors import Cors
from mlxnode.server.http.figures_feed import FiguresFeed
from mlxnode.server.http.rate_limits import RateLimiter
from mlxnode.server.http.request_figures import pong_of
from mlxnode.server.http.request_log import RequestLog
from mlxnode.server.http.tls import Tls
from mlxnode.server.http.trace import trace_lines
from mlxnode.server.registry.registry import Registry
from mlxnode.server.response_store import ResponseStore
from mlxnode.server.serving import Serving

if TYPE_CHECKING:
    from mlxnode.server.metrics.metrics import Metrics
    from mlxnode.server.tracing.export import SpanExport
logger = logging.getLogger("mlxnode.server")

_WIRE_TIMEOUT = 2.0  # seconds that connections wait for an engine, which may be loading
_EXIT_TIMEOUT = 2.0  # seconds from the order to stop until the process exits in any case

_FLUSH_TIMEOUT = 0.5  # seconds for what is still to be written


def run_worker(
    control: Connection,
    index: int,
    listener: socket.socket,
    config: NodeConfig,
    models: list[ServedModel],
    access: Access,
    shared: Shared | None = None,
) -> None:
    """Serve HTTP on ``listener`` until the supervisor orders a stop, or is gone.

    ``shared`` is what all workers have in common; None: this one has nothing.
    """
    ignore_signals()
    # Without it, transformers warns in each worker that PyTorch, which is not used, is missing.
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    set_up_logging(config.server.log_level)
    trace_lines()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    shared = shared or Shared()
    metrics = _metrics(config, shared, index)
    worker = Worker(control, listener, config, loop, models, access, shared, metrics)
    loop.run_until_complete(worker.run(f"mlxnode-{index}"))


def _metrics(config: NodeConfig, shared: Shared, index: int) -> "Metrics | None":
    """What worker ``index`` counts and renders, if the configuration lets anybody read it."""
    if config.server.metrics == "off":
        return None
    # Imported here: a node without /metrics does without prometheus-client.
    from mlxnode.server.metrics.metrics import Metrics

    return Metrics(shared.metrics, index)


class Worker:
    """The process: loads, serves, obeys the control pipe, ends."""

    def __init__(
        self,
        control: Connection,
        listener: socket.socket,
        config: NodeConfig,
        loop: asyncio.AbstractEventLoop,
        models: list[ServedModel],
        access: Access,
        shared: Shared,
        metrics: "Metrics | None" = None,
    ):
        self._listener = listener
        self._inner = shared.inner
        self._config = config
        self._loop = loop
        capacity = config.server.response_store
        folder = shared.responses
        self._store = None if folder is None else ResponseStore(folder, capacity)
        server = config.server
        self._request_log = (
            RequestLog(server.request_log, server.request_log_file).open()
            if server.request_log != "off"
            else None
        )
        self._stopped = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._serving: Serving | None = None  # None while the worker loads
        self._connection = control
        self._control = Pipe(
            control, SupervisorToChild, self._on_message, self._on_close, name="control"
        )
        types: dict[str, ModelType] = {id: m.type for id, m in config.api.models.items()}
        self._registry = Registry(models, types, server)
        self._openings: set[asyncio.Task[None]] = set()  # of models that are preloaded
        self._engine = EngineClient(
            loop,
            on_busy=lambda busy: self._control.send(Busy(busy)),
            on_states=self._registry.note_states,
        )
        self._context = WorkerContext(
            config=config,
            registry=self._registry,
            engine=self._engine,
            rate_limiter=RateLimiter(self._control.send, enabled=access.is_limited),
            keyring=Keyring(access.keys, required=config.api.require_auth),
            cors=Cors(access.cors_origins),
            report_usage=self._control.send,
            tls=Tls(access.certificate),
            read_figures=self._read_figures,
            read_usage=self._read_usage,
            figures=FiguresFeed(functools.partial(self._read_figures, with_history=True)),
            cancel=lambda id: self._control.send(Cancel(id)),
            response_store=self._store,
            request_log=self._request_log,
            metrics=metrics,
            batches=_batch_store(server.batches),
            wake_batches=lambda: self._control.send(Wake()),
        )

    async def run(self, name: str) -> None:
        """Load, then serve until the order to stop; ``name`` is that of the application."""
        self._control.start()
        await self._registry.open_preloaded()
        if self._stopped.is_set():
            return
        spans = self._open_spans(name) if self._config.server.tracing else None
        garbage.freeze()
        self._serving = await Serving.start(name, self._listener, self._context, self._inner)
        stop_pulse(self._connection)
        self._control.send(Ready(self._registry.opener.failed))
        # A connection that is accepted earlier would get a 503 while other workers can serve.
        self._loop.call_later(_WIRE_TIMEOUT, self._serving.accept)
        await self._stopped.wait()
        if spans is not None:
            spans.begin_close()
        self._control.flush(_FLUSH_TIMEOUT)  # the usage of the last requests
        if self._request_log is not None:
            self._request_log.close(_FLUSH_TIMEOUT)
        if spans is not None:
            spans.close(_FLUSH_TIMEOUT)

    def _open_spans(self, name: str) -> "SpanExport":
        """What sends the spans of this worker. Nobody else pays for the import."""
        from mlxnode.server.tracing.export import SpanExport

        spans = SpanExport(name).open()
        self._context.write_span = spans.write
        return spans

    def _read_figures(self, *, with_history: bool = False) -> NodeFigures:
        """Ask the supervisor for the figures of the node.

        Raises:
            Unavailable: it does not tell them.
        """
        try:
            return read_status(self._listener.getsockname()[1], with_history=with_history)
        except (StatusError, OSError) as error:
            raise Unavailable(f"The figures of the node cannot be read: {error}") from error

    def _read_usage(self, **which: Any) -> list[UsageRow]:
        """The rows of the usage file; ``which``: see ``usage_file.read_usage``.

        Raises:
            Unavailable: it cannot be read.
        """
        try:
            path = usage_path(self._config.server.usage_file)
            return [] if path is None else read_usage(path, **which)
        except UsageError as error:
            raise Unavailable(f"The usage cannot be read: {error}") from error

    # --- the control pipe: called on its reader thread ------------------------------

    def _on_message(self, message: SupervisorToChild) -> None:
        if isinstance(message, Connect):
            connection = Connection(self._control.receive_fd())
            handle = functools.partial(self._connect, message, connection)
        else:
            handle = functools.partial(self._obey, message)
        if isinstance(message, Stop):
            self._exit_soon()
        self._loop.call_soon_threadsafe(handle)

    def _on_close(self) -> None:
        self._exit_soon()
        with contextlib.suppress(RuntimeError):  # The loop may have ended already.
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _exit_soon(self) -> None:
        """End the process even if the event loop hangs."""
        timer = threading.Timer(_EXIT_TIMEOUT, os._exit, [0])
        timer.daemon = True
        timer.start()

    # --- on the event loop ----------------------------------------------------------

    def _obey(self, message: SupervisorToChild) -> None:
        if isinstance(message, Ping):
            self._control.send(pong_of(message.sequence, self._context.in_flight))
        elif isinstance(message, Cancel):
            self._context.in_flight.cancel(message.id)
        elif isinstance(message, Reserved):
            self._context.rate_limiter.on_reserved(message)
        elif isinstance(message, Access):
            self._let_in(message)
        elif isinstance(message, Models):
            self._registry.replace(message)
            self._open_preloaded()
        elif isinstance(message, FailedModels):
            self._registry.catalog.reasons = message.reasons
        elif isinstance(message, Fits):
            self._registry.catalog.fits = message.verdicts
        elif isinstance(message, EngineSilent):
            self._engine.set_silent(message.seconds)
        elif isinstance(message, Ranks):
            self._context.ranks = message.ranks
        elif isinstance(message, Drain):
            if self._context.is_leaving:
                return
            self._context.is_leaving = True
            if self._serving is not None and message.delay:
                self._loop.call_later(message.delay, self._begin_drain, message.timeout)
            else:
                self._begin_drain(message.timeout)
        elif isinstance(message, Stop):
            self._stopped.set()

    def _let_in(self, access: Access) -> None:
        context = self._context
        context.keyring.replace(access.keys)
        context.tls.replace(access.certificate)
        context.rate_limiter.enabled = access.is_limited
        context.cors = Cors(access.cors_origins)

    def _open_preloaded(self) -> None:
        """Open the models that the engine loads by itself now, before a request comes."""
        opening = self._loop.create_task(self._registry.open_preloaded())
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)

    def _connect(self, message: Connect, connection: Connection) -> None:
        self._engine.connect(connection)
        if self._serving is not None:
            self._serving.accept()
        self._control.send(Connected(message.pipe_id))

    def _begin_drain(self, timeout: float) -> None:
        if self._serving is not None:
            self._serving.refuse()  # before the next message is handled
        self._draining = self._loop.create_task(self._drain(timeout))

    async def _drain(self, timeout: float) -> None:
        if self._serving is not None:
            await self._serving.drain(timeout)
        self._stopped.set()


def _batch_store(config: BatchesConfig) -> BatchStore | None:
    """The store of files and batches, which opens its folder when it is used first."""
    try:
        folder = batches_folder(config) if config.enabled else None
    except UsageError as error:
        logger.warning("there are neither files nor batches: %s", error)
        return None
    return None if folder is None else BatchStore(folder, keep_days=config.keep_days)
