"""The objects that all request handlers of a worker share."""

from dataclasses import dataclass, field

from sanic import Request

from mlxnode.config.tables import NodeConfig
from mlxnode.server.client import EngineClient
from mlxnode.server.http.auth import Keyring
from mlxnode.server.http.cors import Cors
from mlxnode.server.http.hosts import Hosts
from mlxnode.server.http.rate_limits import RateLimiter
from mlxnode.server.reading.reader import BodyReader
from mlxnode.server.registry import Registry
from mlxnode.server.response_store import ResponseStore


@dataclass
class WorkerContext:
    """One worker: its models, its engine, its rules."""

    config: NodeConfig
    registry: Registry
    engine: EngineClient
    rate_limiter: RateLimiter
    keyring: Keyring
    cors: Cors
    response_store: ResponseStore | None = None
    hosts: Hosts | None = None  # None: a key is required, and any Host is served
    is_draining: bool = False
    body_reader: BodyReader = field(default_factory=BodyReader)


def context_of(request: Request) -> WorkerContext:
    """The context of the worker that handles ``request``."""
    return request.app.ctx.worker_context


def registry_of(request: Request) -> Registry:
    """The models that the request's key may use."""
    return request.ctx.registry
