"""The process that tells whether models fit into memory, one after the other.

It gets the configuration of the engine, then models, and answers each model with its verdict.
"""

import contextlib
import importlib
import os
import queue
import threading
from multiprocessing.connection import Connection

import msgspec

from mlxnode.config.tables import EngineConfig
from mlxnode.messages.message import decoder_of
from mlxnode.models.served import ServedModel
from mlxnode.process.signals import ignore_signals

_NICE = 10  # the engine and the workers come first
_PREPARE = "mlxnode.engine.cpu"  # imported by name: this room does not import the engine
_WEIGH = "mlxnode.engine.fit.served"


def main(descriptor: int) -> None:
    """Answer until the connection closes: the node has ended, or needs no more verdicts."""
    ignore_signals()
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    connection = Connection(descriptor)
    config = EngineConfig.model_validate_json(connection.recv_bytes())
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
    importlib.import_module(_PREPARE).prepare_process()
    weigh = importlib.import_module(_WEIGH).weigh
    decoder = decoder_of(ServedModel)
    while True:
        model = decoder.decode(received.get())
        connection.send_bytes(msgspec.msgpack.encode(weigh([model], config)[model.id]))


def _receive(connection: Connection, received: "queue.SimpleQueue[bytes]") -> None:
    """Read ahead, so that the process ends with the node, also amid a model."""
    while True:
        try:
            received.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
