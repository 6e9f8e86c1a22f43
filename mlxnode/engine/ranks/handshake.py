"""A TCP connection between two ranks: both sides prove the key before anything else is read.

The proof is the challenge of ``multiprocessing.connection`` (an HMAC each way); nothing that
comes before it is decoded, and it has to end within ``HANDSHAKE_SECONDS``.
"""

import contextlib
import multiprocessing
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

HANDSHAKE_SECONDS = 5.0

_Step = Callable[[Connection, bytes], object]


def offer(peer: socket.socket, key: bytes) -> Connection:
    """Rank 0's side of the proof. Takes ``peer``, which is closed if the proof fails.

    Raises:
        multiprocessing.AuthenticationError: the other side has another key.
        OSError, EOFError: the other side speaks another language, or says nothing in time.
    """
    return _proven(peer, key, deliver_challenge, answer_challenge)


def connect(host: str, port: int, key: bytes) -> Connection:
    """The other ranks' side: connect with rank 0 and prove the key.

    Raises:
        multiprocessing.AuthenticationError: rank 0 has another key.
        OSError, EOFError: rank 0 is not there, or does not answer in time.
    """
    peer = socket.create_connection((host, port), timeout=HANDSHAKE_SECONDS)
    return _proven(peer, key, answer_challenge, deliver_challenge)


def bound_silence(connection: Connection, seconds: float) -> None:
    """Reads and writes that make no progress for ``seconds`` fail from now on; 0: never."""
    value = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    with _as_socket(connection) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def shut_down(connection: Connection) -> None:
    """Wake whoever reads or writes; the other side sees the end."""
    with contextlib.suppress(OSError), _as_socket(connection) as peer:
        peer.shutdown(socket.SHUT_RDWR)


def _proven(peer: socket.socket, key: bytes, *steps: _Step) -> Connection:
    """A connection over ``peer`` after the steps of a proof; closed if one of them fails."""
    peer.setblocking(True)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(peer.detach())
    try:
        with _bounded(connection):
            for step in steps:
                step(connection, key)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _bounded(connection: Connection) -> Iterator[None]:
    """The block ends in time, also if the other side sends a byte now and then."""
    timer = threading.Timer(HANDSHAKE_SECONDS, shut_down, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # later, the number of the descriptor can belong to another file


@contextlib.contextmanager
def _as_socket(connection: Connection) -> Iterator[socket.socket]:
    """The socket inside a connection. Takes no descriptor more."""
    peer = socket.socket(fileno=connection.fileno())
    try:
        yield peer
    finally:
        peer.detach()


AuthenticationError = multiprocessing.AuthenticationError
