"""The process that reads large bodies: it holds up no other request while it does.

It reads one body at a time, and ends when its worker does: their socket closes.
"""

import contextlib
import pickle
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from mlxnode.process.signals import ignore_signals
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import Body
from mlxnode.server.reading.strict_json import parse_json
from mlxnode.server.reading.validation import validate

# The schema of a body, or the function that chooses it by what the body holds.
Schema = type[Body] | Callable[[dict[str, Any]], type[Body]]

_GROWTH = 512 * 1024 * 1024  # bytes of memory, after which a new process takes less
_UNIT = 1 if sys.platform == "darwin" else 1024  # of what getrusage counts memory in


class Order(NamedTuple):
    """How to read the bytes that follow. ``defaults``: fields of bodies that lack them."""

    schema: Schema
    is_strict: bool
    defaults: dict[str, Any]


class Read(NamedTuple):
    """A valid body, and the names of its fields that change nothing."""

    body: Any
    ignored: list[str]


class Answer(NamedTuple):
    """What came of an order; after the last one, the process ends."""

    result: "Read | Refused"
    is_last: bool


class Refused(NamedTuple):
    """Why the body is not valid, as ``InvalidRequest`` has it."""

    message: str
    param: str | None
    code: str | None


def read(body: bytes, order: Order) -> Read:
    """``body`` as ``order`` says.

    Raises:
        InvalidRequest: the body is not JSON, or not valid.
    """
    raw = parse_json(body)
    schema = order.schema
    if not isinstance(schema, type):
        schema = schema(raw)
    for name, value in order.defaults.items():
        if value is not None and raw.get(name) is None:
            raw[name] = value
    return Read(*validate(schema, raw, strict=order.is_strict))


def main(descriptor: int) -> None:
    """Answer the orders that come over a socket until it closes."""
    ignore_signals()
    limit = _max_memory() + _GROWTH  # at first it may be that of the parent, as Linux counts
    is_last = False
    with Connection(descriptor) as orders, contextlib.suppress(EOFError, ConnectionError):
        while not is_last:
            order: Order = pickle.loads(orders.recv_bytes())
            result = _result(orders.recv_bytes(), order)
            is_last = _max_memory() > limit
            orders.send_bytes(pickle.dumps(Answer(result, is_last), 5))


def _result(body: bytes, order: Order) -> Read | Refused:
    try:
        return read(body, order)
    except InvalidRequest as error:
        return Refused(error.message, error.param, error.code)


def _max_memory() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
