"""The objects that all request handlers of a worker share."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sanic import Request

from mlxnode.batches.store import BatchStore
from mlxnode.config.tables import NodeConfig
from mlxnode.figures import NodeFigures, RankFigures
from mlxnode.messages.control import Usage
from mlxnode.server.client.engine_client import EngineClient
from mlxnode.server.http.auth import Keyring
from mlxnode.server.http.cors import Cors
from mlxnode.server.http.figures_feed import FiguresFeed
from mlxnode.server.http.hosts import Hosts
from mlxnode.server.http.in_flight import InFlight
from mlxnode.server.http.rate_limits import RateLimiter
from mlxnode.server.http.request_log import RequestLog
from mlxnode.server.http.tls import Tls
from mlxnode.server.reading.reader import BodyReader
from mlxnode.server.registry.registry import Registry
from mlxnode.server.response_store import ResponseStore
from mlxnode.server.tracing.span import RequestSpan

if TYPE_CHECKING:  # a node without /metrics does without prometheus-client
    from mlxnode.server.metrics.metrics import Metrics


@dataclass
class WorkerContext:
    """One worker: its models, its engine, its rules."""

    config: NodeConfig
    registry: Registry
    engine: EngineClient
    rate_limiter: RateLimiter
    keyring: Keyring
    cors: Cors
    report_usage: Callable[[Usage], object]  # to the supervisor
    tls: Tls
    read_figures: Callable[[], NodeFigures]  # of the node; raises Unavailable
    read_usage: Callable[..., Sequence[Struct]]  # as ``process.usage_file``; the same
    figures: FiguresFeed
    cancel: Callable[[str], object]  # the request of that id, in whatever worker it is
    response_store: ResponseStore | None = None
    batches: BatchStore | None = None  # None: the node has neither files nor batches
    wake_batches: Callable[[], object] = lambda: None  # there may be work for them
    hosts: Hosts | None = None  # None: a key is required, and any Host is served
    request_log: RequestLog | None = None
    write_span: Callable[[RequestSpan], object] | None = None  # None: nobody traces
    metrics: "Metrics | None" = None  # None: /metrics is off
    is_leaving: bool = False  # the node ends: /health says so, before connections end
    is_draining: bool = False  # answers are the last ones of their connections
    refuses: bool = False  # a drain has gone on for a while: no request is begun any more
    ranks: Sequence[RankFigures] = ()  # of an engine on several machines
    in_flight: InFlight = field(default_factory=InFlight)
    # Of streams, which end with an error event if the node ends first.
    preparations: set[asyncio.Task[Any]] = field(default_factory=set)
    body_reader: BodyReader = field(default_factory=BodyReader)


def context_of(request: Request) -> WorkerContext:
    """The context of the worker that handles ``request``."""
    return request.app.ctx.worker_context


def registry_of(request: Request) -> Registry:
    """The models that the request's key may use."""
    return request.ctx.registry
