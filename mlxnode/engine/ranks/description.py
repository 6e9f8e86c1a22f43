"""What a machine says of itself for ``mlxnode doctor --hosts``, and the speed of its link."""

import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlxnode.engine.ranks.group import versions
from mlxnode.engine.ranks.handshake import bound_silence, connect
from mlxnode.errors import NodeError
from mlxnode.models.files import find_files
from mlxnode.models.fingerprints import fingerprints

PAYLOAD = 1 << 20  # bytes of a block
NUM_BLOCKS = 64
NUM_TRIPS = 200
LINK_SECONDS = 30.0  # without progress


def describe(models: Sequence[str]) -> dict[str, Any]:
    """Versions, and the fingerprints of each of ``models``: paths, or ids of the hub."""
    files: dict[str, Any] = {}
    for model in models:
        try:
            found = find_files(model, Path.cwd())
            files[model] = "not on the disk" if found is None else fingerprints(found.weights)
        except (OSError, NodeError) as error:
            files[model] = getattr(error, "strerror", None) or str(error)
    return {"host": socket.gethostname(), "versions": versions(), "models": files}


def full_description(
    models: Sequence[str], where: tuple[str, int] | None, key: str
) -> dict[str, Any]:
    """The same; at ``where``, another machine measures the link meanwhile, with ``measure``."""
    said = describe(models)
    if where is not None:
        try:
            with connect(*where, key.encode()) as connection:
                answer(connection)
        except (OSError, EOFError) as error:
            said["link"] = getattr(error, "strerror", None) or str(error) or "it was closed"
    return said


def answer(connection: Connection) -> None:
    """The other side of ``measure``."""
    bound_silence(connection, LINK_SECONDS)
    for _ in range(NUM_TRIPS):
        connection.send_bytes(connection.recv_bytes(64))
    for _ in range(NUM_BLOCKS):
        connection.recv_bytes(PAYLOAD)
    connection.send_bytes(b"all")


def measure(connection: Connection) -> tuple[float, float]:
    """The median seconds of a round trip of some bytes, and the bytes in a second of many.

    Raises:
        OSError, EOFError: the other side is gone.
    """
    bound_silence(connection, LINK_SECONDS)
    trips = []
    for _ in range(NUM_TRIPS):
        began = time.perf_counter()
        connection.send_bytes(b"trip")
        connection.recv_bytes(64)
        trips.append(time.perf_counter() - began)
    block = bytes(PAYLOAD)
    began = time.perf_counter()
    for _ in range(NUM_BLOCKS):
        connection.send_bytes(block)
    connection.recv_bytes(64)
    seconds = time.perf_counter() - began
    return sorted(trips)[NUM_TRIPS // 2], NUM_BLOCKS * PAYLOAD / seconds
