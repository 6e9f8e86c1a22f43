"""The listening socket. The supervisor binds it before it starts any process."""

import contextlib
import errno
import ipaddress
import socket

from mlxnode.errors import AddressError

BACKLOG = 2048  # connections that wait for a worker to accept them
_PROBE_TIMEOUT = 0.5  # seconds; an address of this machine answers at once
# Nobody is asked: a datagram socket that is "connected" there has the address of this machine
# that it would send from. Both addresses are reserved for documents (RFC 5737, RFC 3849).
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


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
        _check_unused(listener, str(address[0]), port)
        # Else the connections of an earlier node that wait in TIME_WAIT prevent a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        is_used = error.errno == errno.EADDRINUSE
        reason = _in_use(str(address[0]), port) if is_used else error.strerror
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from error
    except AddressError as error:
        listener.close()
        raise AddressError(f"cannot listen on {host}:{port}: {error}") from error
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL of a listening socket, with its actual port."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{_join(host, port)}"


def _check_unused(listener: socket.socket, host: str, port: int) -> None:
    """Raises AddressError if a program answers where ``listener`` would be bound.

    With SO_REUSEADDR, macOS and BSD let 127.0.0.1:P and 0.0.0.0:P be bound side by side: one
    program then takes the connections that the other one expects. So ask before the bind.
    """
    for own in _reached_by(listener, host) if port else ():
        if _is_answered(own, port):
            raise AddressError(_in_use(own, port))


def _reached_by(listener: socket.socket, host: str) -> list[str]:
    """The addresses of this machine whose connections come to ``host``, as far as known."""
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return [host]
    families = [listener.family]
    if listener.family == socket.AF_INET6 and not listener.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    ):
        families.append(socket.AF_INET)
    addresses = [_LOOPBACK[family] for family in families]
    for family in families:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[family], 9))
            addresses.append(probe.getsockname()[0])
    return addresses


def _is_answered(host: str, port: int) -> bool:
    """True if a program accepts connections at ``port`` of ``host``, which is this machine."""
    try:
        with socket.create_connection((host, port), _PROBE_TIMEOUT, (host, 0)) as probe:
            # A socket whose own port happens to be ``port`` connects with itself.
            return probe.getsockname() != probe.getpeername()
    except OSError:
        return False


def _in_use(host: str, port: int) -> str:
    return f"{_join(host, port)} is in use by another program"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
