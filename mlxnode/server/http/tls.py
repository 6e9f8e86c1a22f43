"""TLS: the certificate of new connections, and clients that do not speak TLS."""

import asyncio
import logging
import socket
import ssl

from mlxnode.config.certificate import Certificate
from mlxnode.errors import ConfigError

logger = logging.getLogger("mlxnode.server")

HANDSHAKE_TIMEOUT = 10.0  # seconds for the first byte, and again for the handshake
SHUTDOWN_TIMEOUT = 5.0  # seconds for the rest of an answer, and for the client to close
_HANDSHAKE = 22  # the first byte of a client that speaks TLS (RFC 8446, section 5.1)


class Tls:
    """How new connections are encrypted. ``context`` None: they are not."""

    def __init__(self, certificate: Certificate | None):
        self._certificate = certificate
        self.context: ssl.SSLContext | None = certificate and certificate.make_context()

    def replace(self, certificate: Certificate | None) -> None:
        """Show new connections ``certificate``. A node with TLS stays one, and so one without.

        Each certificate has a context of its own: the open connections use the old one.
        """
        if certificate is None or self.context is None or certificate == self._certificate:
            return
        try:
            self.context = certificate.make_context()
        except ConfigError as error:  # the supervisor has checked it: no descriptor is left
            logger.warning("the old certificate stays: %s", error)
        else:
            self._certificate = certificate


async def speaks_tls(client: socket.socket) -> bool:
    """True if the first byte of ``client`` begins a handshake; no byte is taken.

    Raises:
        TimeoutError: there was no byte within ``HANDSHAKE_TIMEOUT`` seconds.
        OSError: the client has left.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(client.fileno(), readable.set)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            await readable.wait()
    finally:
        loop.remove_reader(client.fileno())
    first = client.recv(1, socket.MSG_PEEK)
    return not first or first[0] == _HANDSHAKE
