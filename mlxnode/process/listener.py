"""The listening socket. The supervisor binds it before it starts any process."""

import errno
import socket

from mlxnode.errors import AddressError

BACKLOG = 2048  # connections that wait for a worker to accept them


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. Port 0 takes a free port.

    Raises:
        AddressError: the address is in use, is not an address of this machine, or is not
            allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket, with its actual port."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
