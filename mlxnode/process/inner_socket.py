"""The inner socket: a Unix-domain socket for requests of the node's own processes.

The workers accept connections there, beside those of clients. It is in a folder of this user's
alone, so what it takes is trusted: a request there names the key whose request it is.
"""

import logging
import os
import re
import socket
from pathlib import Path

from mlxnode.config.tables import EngineConfig
from mlxnode.process.private_folder import is_running
from mlxnode.process.status_socket import make_private, socket_path

log = logging.getLogger("mlxnode.supervisor")

KEY_HEADER = "x-mlxnode-key"  # the id of the key whose request it is

_BACKLOG = 128  # connections that wait for a worker; macOS has no longer queue
_NAME = re.compile(r"inner-([0-9]+)\.sock")


def max_in_flight(engine: EngineConfig) -> int:
    """The requests that are sent there at once: as many as fill a batch, and half as many more.

    They are at most half of what can wait in the engine, so that others find room there.
    """
    wanted = engine.max_batch_size + max(engine.max_batch_size // 2, 1)
    return max(1, min(wanted, engine.max_queue_size // 2))


class InnerSocket:
    """Exists from ``open`` to ``close``; a socket of a killed node is removed."""

    def __init__(self):
        self.path = socket_path(f"inner-{os.getpid()}.sock")
        self.listener: socket.socket | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            OSError: the socket cannot be made.
        """
        make_private(self.path.parent)
        _remove_left(self.path.parent)
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self.listener = listener

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None
            self.path.unlink(missing_ok=True)


def _remove_left(folder: Path) -> None:
    """Remove the sockets of nodes that do not run any more."""
    for path in folder.iterdir():
        found = _NAME.fullmatch(path.name)
        if found and not is_running(int(found[1])):
            log.info("removing %s, which a killed node has left", path.name)
            path.unlink(missing_ok=True)
