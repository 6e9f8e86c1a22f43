"""Messages over a socket, each after its length."""

import socket
from collections.abc import Callable

_LENGTH = 8  # bytes
_PIECE = 1 << 18  # bytes that are asked for at once
MAX_BYTES = 1 << 30


def send(peer: socket.socket, message: bytes) -> None:
    """Send ``message`` whole.

    Raises:
        OSError: the peer is gone, or the timeout of the socket is over.
    """
    peer.sendall(len(message).to_bytes(_LENGTH, "little"))
    peer.sendall(message)


def receive(peer: socket.socket, wait: Callable[[], None] = lambda: None) -> bytes | None:
    """The next message; None if the peer has closed its end.

    ``wait`` is called each time the timeout of the socket is over: it may raise.

    Raises:
        OSError: the peer is gone, or sends a length that no message has.
    """
    head = _exactly(peer, _LENGTH, wait)
    if head is None:
        return None
    if (length := int.from_bytes(head, "little")) > MAX_BYTES:
        raise OSError(f"a message of {length} bytes")
    return _exactly(peer, length, wait)


def _exactly(peer: socket.socket, length: int, wait: Callable[[], None]) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        try:
            piece: bytes | None = peer.recv(min(length - len(data), _PIECE))
        except TimeoutError:
            piece = None
        if piece is None:
            wait()
        elif not piece:
            return None
        else:
            data += piece
    return bytes(data)
