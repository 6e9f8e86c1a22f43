"""What every request handler of a worker shares."""

from dataclasses import dataclass

from sanic import Request

from mlxnode.config.tables import NodeConfig
from mlxnode.server.client import EngineClient
from mlxnode.server.http.auth import Keyring
from mlxnode.server.http.cors import Cors
from mlxnode.server.http.rate_limits import Limits
from mlxnode.server.registry import Registry


@dataclass
class Node:
    """One worker: its models, its engine, its rules."""

    config: NodeConfig
    registry: Registry
    engine: EngineClient
    limits: Limits
    keyring: Keyring
    cors: Cors
    is_draining: bool = False


def node_of(request: Request) -> Node:
    return request.app.ctx.node


def registry_of(request: Request) -> Registry:
    """The models that the request's key may use."""
    return request.ctx.registry
