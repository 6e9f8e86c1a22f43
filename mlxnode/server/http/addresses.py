"""The addresses of clients, as far as one client is told from another by them."""

import ipaddress
from typing import Any

_PREFIX = 64  # bits of an IPv6 address; one machine takes as many of the rest as it likes


def network_of(address: tuple[Any, ...] | None) -> str:
    """Who is at the other end of a connection: an IPv4 address, or the network of an IPv6 one.

    ``address`` is as ``socket.accept`` returns it; on macOS a client that has left already has
    none.
    """
    if not address:
        return "unknown"
    ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    if ip.is_loopback:
        return str(ip)
    return str(ipaddress.ip_network((ip, _PREFIX), strict=False))
