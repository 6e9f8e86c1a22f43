"""Options of TCP connections."""

import contextlib
import socket
import struct

# A client that waits for a long answer without a stream gets no byte meanwhile. The probes keep
# its connection in the tables of the routers between, and find a client that is gone without a
# word: its request then ends.
_IDLE = 30  # seconds without a byte until the first probe
_INTERVAL = 15  # seconds between two probes
_COUNT = 4  # probes without an answer until the connection is closed
_IDLE_OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPALIVE")  # its name on Linux, and on macOS
_IDLE_OPTION: int = next(getattr(socket, o) for o in _IDLE_OPTIONS if hasattr(socket, o))


def probe_when_silent(connection: socket.socket) -> None:
    """Let TCP probe the peer of a silent ``connection`` (RFC 9293, section 3.8.4)."""
    with contextlib.suppress(OSError):  # macOS: the client has left already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, _IDLE_OPTION, _IDLE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)


def drop_unsent(connection: socket.socket) -> None:
    """Let the close of ``connection`` drop what its peer does not take, and reset it."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
