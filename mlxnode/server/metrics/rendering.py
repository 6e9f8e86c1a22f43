"""The process that renders what Prometheus reads: no stream of the worker waits for it.

It answers one order after the other, and ends when its worker does, or when nobody has asked
for long.
"""

import contextlib
import gzip
import pickle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics

from mlxnode.figures import NodeFigures
from mlxnode.process.signals import ignore_signals
from mlxnode.server.metrics.files import CountedFamilies
from mlxnode.server.metrics.stored import StoredFamilies
from mlxnode.server.metrics.told import ToldFamilies

Form = Literal["text", "openmetrics"]

_IDLE = 300.0  # seconds; a process takes some 30 MB


class Order(NamedTuple):
    """What to render. ``folder`` None: nothing is counted; ``store`` None: no batches."""

    folder: Path | None
    figures: NodeFigures | None
    form: Form
    is_compressed: bool
    store: Path | None = None


def main(descriptor: int) -> None:
    """Answer the orders that come over a socket until it closes."""
    ignore_signals()
    with Connection(descriptor) as orders, contextlib.suppress(EOFError, ConnectionError):
        while orders.poll(_IDLE):
            orders.send_bytes(render(pickle.loads(orders.recv_bytes())))


def render(order: Order) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    if order.folder is not None:
        registry.register(CountedFamilies(order.folder))
    registry.register(ToldFamilies(order.figures))
    if order.store is not None:
        registry.register(StoredFamilies(order.store))
    write = text.generate_latest if order.form == "text" else openmetrics.generate_latest
    rendered = write(registry)
    # The lowest level: most of the bytes go, in a tenth of the time.
    return gzip.compress(rendered, 1) if order.is_compressed else rendered
