"""What every request handler of a worker shares."""

from dataclasses import dataclass

from sanic import Request

from mlxnode.config import NodeConfig
from mlxnode.server.auth import Keyring
from mlxnode.server.client import EngineClient
from mlxnode.server.cors import Cors
from mlxnode.server.limits import Limits
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
