"""Rank 0 listens for the others: who has the key comes in and says who it is."""

import contextlib
import logging
import queue
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import msgspec

from mlxnode.engine.ranks.handshake import AuthenticationError, bound_silence, offer
from mlxnode.errors import ConfigError
from mlxnode.messages.ranks import Hello, from_rank

log = logging.getLogger("mlxnode.ranks")

MAX_HANDSHAKES = 32  # at the same time; more connections are closed
MAX_HELLO_BYTES = 64 * 1024


class Arrival(NamedTuple):
    """A process with the key that wants to be a rank."""

    connection: Connection
    hello: Hello


class ProvenDoor:
    """Listens on ``address``:``port`` until ``close``: who proves the key is in ``arrivals``.

    Raises:
        ConfigError: this machine does not have the address, or the port is in use.
    """

    def __init__(self, address: str, port: int, key: bytes):
        self.arrivals: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._key = key
        self._free = threading.Semaphore(MAX_HANDSHAKES)
        try:
            family, _, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[
                0
            ]
            self._listener = socket.create_server(where, family=family)
        except OSError as error:
            raise ConfigError(
                f"engine.distributed: rank 0 cannot listen on {address} port {port}: "
                f"{error.strerror}; the first host of the hostfile has to be this machine"
            ) from error
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="ranks-door", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, where = self._listener.accept()
            except OSError:
                return
            if not self._free.acquire(blocking=False):
                peer.close()
                continue
            threading.Thread(
                target=self._let_in, args=(peer, where[0]), name="ranks-let-in", daemon=True
            ).start()

    def _let_in(self, peer: socket.socket, where: str) -> None:
        try:
            connection = offer(peer, self._key)
        except AuthenticationError:
            log.warning("a process at %s has another key than the engine's", where)
            return
        except (OSError, EOFError, AssertionError, ValueError):
            return  # whatever else connects to ports is no news
        finally:
            self._free.release()
        self._greet(connection)

    def _greet(self, connection: Connection) -> None:
        self.arrivals.put(connection)


class Door(ProvenDoor):
    """The same for ranks, which say who they are within ``hello_seconds``: ``Arrival``."""

    def __init__(self, address: str, port: int, key: bytes, hello_seconds: float):
        self._hello_seconds = hello_seconds
        super().__init__(address, port, key)

    def _greet(self, connection: Connection) -> None:
        try:
            # The process imports mlx meanwhile.
            bound_silence(connection, self._hello_seconds)
            hello = from_rank.decode(connection.recv_bytes(MAX_HELLO_BYTES))
        except (OSError, EOFError, msgspec.DecodeError):
            connection.close()
            return
        if isinstance(hello, Hello):
            self.arrivals.put(Arrival(connection, hello))
        else:
            connection.close()
