"""Whose a request is, and what it comes before: the priority of its key, and its own."""

import math
from typing import Any

from sanic import Request

from mlxnode.server.client.engine_call import Sender
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.acceptor import is_inner
from mlxnode.server.http.addresses import network_of
from mlxnode.server.http.auth import ANONYMOUS

_MOST = 100  # a larger number says no more: each is a queue of its own in the engine


def note_priority(request: Request, wanted: Any) -> list[str]:
    """Keep ``wanted``, the field ``priority`` of the body; returns its name if it says nothing.

    The number is added to the priority of the key. As in vLLM and Cohere, a lower number is
    served first.
    """
    if not isinstance(wanted, (int, float)) or isinstance(wanted, bool):
        return [] if wanted is None else ["priority"]
    request.ctx.priority = math.floor(max(-_MOST, min(wanted, _MOST)))
    return []


def sender_of(request: Request) -> Sender:
    """The key, the weight and the priority of a request whose body was read.

    The requests on the inner socket are those of batches, which others come before.

    Raises:
        InvalidRequest: the request has a negative priority, and its key does not allow that.
    """
    key, priority = request.ctx.api_key, getattr(request.ctx, "priority", 0)
    if priority < 0 and not key.allow_priority:
        raise InvalidRequest(
            f"Invalid 'priority': expected a value >= 0, got {priority}: the API key does not "
            "allow its requests to go before others. A higher number is served later.",
            param="priority",
            code="priority_not_allowed",
        )
    name = key.id
    if key is ANONYMOUS:  # Without keys, the clients share the engine by their addresses.
        name += f" {network_of((request.ip,) if request.ip else None)}"
    return Sender(name, key.priority + priority, key.weight, background=is_inner(request))
