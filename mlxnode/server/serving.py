"""The HTTP server of one worker, from its first connection to its last."""

import asyncio
import logging
import socket
from collections.abc import Sequence

from sanic.server import AsyncioServer

from mlxnode.config.file import parse_address
from mlxnode.process.descriptors import descriptor_limit, num_open_descriptors
from mlxnode.process.inner_socket import max_in_flight
from mlxnode.server.app import build_app
from mlxnode.server.errors import SHUTTING_DOWN, Unavailable
from mlxnode.server.http.acceptor import SURPLUS, Acceptor, Connection
from mlxnode.server.http.context import WorkerContext
from mlxnode.server.http.hosts import Hosts, own_names
from mlxnode.server.http.tls import Tls

logger = logging.getLogger("mlxnode.server")

_SPARE_DESCRIPTORS = 32  # for the pipes of the next engine, and for files that are read
_DRAIN_POLL = 0.02  # seconds
# Seconds that open connections are still served in. A balancer that keeps connections to this
# node sends requests until it has seen their end: one that is on its way would be lost, since
# balancers do not repeat a POST.
_LEAVING = 0.1
_CUT_TIMEOUT = 0.5  # seconds that a client has to take the end of its answer


class Serving:
    """Serves HTTP until it has drained."""

    def __init__(self, context: WorkerContext, acceptors: Sequence[Acceptor]):
        self._context = context
        self._acceptors = acceptors
        self._accepts = False

    @classmethod
    async def start(
        cls,
        name: str,
        listener: socket.socket,
        context: WorkerContext,
        inner: socket.socket | None = None,
    ) -> "Serving":
        """Prepare the application for connections on ``listener``, and on ``inner``.

        ``inner`` is the inner socket, whose connections are the node's own.
        """
        api = context.config.api
        if not api.require_auth:
            own = await asyncio.to_thread(own_names)
            address, _port = parse_address(api.address)
            context.hosts = Hosts([*own, *api.allowed_hosts, address])
        app = build_app(name, context)
        # It finishes the routes, and never creates its own server.
        await AsyncioServer(app, asyncio.get_running_loop(), None, set()).startup()
        server = context.config.server
        own_limit = 0 if inner is None else max_in_flight(context.config.engine)
        limit = connection_limit(server.max_connections, own_limit)
        most = server.max_connections_per_address
        acceptors = [Acceptor(app, listener, limit, context.tls, most)]
        if inner is not None:
            plain = Tls(None)
            acceptors.append(Acceptor(app, inner, own_limit, plain, own_limit, is_inner=True))
        return cls(context, acceptors)

    @property
    def _connections(self) -> list[Connection]:
        return [one for acceptor in self._acceptors for one in acceptor.connections]

    def accept(self) -> None:
        """Accept connections from now on, unless it does so already or has to refuse."""
        if not self._accepts:
            self._accepts = True
            for acceptor in self._acceptors:
                acceptor.start()

    def refuse(self) -> None:
        """Accept no connection from now on; ``drain`` ends those that are open."""
        self._context.is_draining = True
        self._context.figures.close()
        for acceptor in self._acceptors:
            acceptor.close()

    async def drain(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for the requests that run. ``refuse`` comes first.

        Then a stream ends with an error event and another request with a 503. A client that
        does not read either is left after a second.
        """
        leaving = min(_LEAVING, timeout)
        if await self._is_idle_within(leaving, closes=False):
            return
        self._context.refuses = True
        if await self._is_idle_within(timeout - leaving):
            return
        self._context.engine.shut_down(SHUTTING_DOWN)
        for preparation in list(self._context.preparations):
            preparation.cancel()
        if await self._is_idle_within(_CUT_TIMEOUT):
            return
        for connection in self._connections:
            connection.cut(Unavailable(SHUTTING_DOWN))
        await self._is_idle_within(_CUT_TIMEOUT)
        for connection in self._connections:
            connection.abort()

    async def _is_idle_within(self, timeout: float, *, closes: bool = True) -> bool:
        """True as soon as no connection is left; False if some are, ``timeout`` s later.

        ``closes`` False: the connections without a request stay open.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while is_busy := self._close_idle(closes=closes) > 0:
            if loop.time() >= deadline:
                break
            await asyncio.sleep(_DRAIN_POLL)
        return not is_busy

    def _close_idle(self, *, closes: bool) -> int:
        """Close the connections without a request; the others close after their request.

        ``closes`` False: the former close after their next request, too.

        Returns the number of connections that are left.
        """
        for connection in self._connections:
            is_closed = closes and connection.close_if_idle()
            if not is_closed and connection.http is not None:
                connection.http.keep_alive = False
        return len(self._connections)


def connection_limit(configured: int | None, own: int = 0) -> int:
    """The connections that a worker serves at once: as configured, or as it can hold open.

    ``own``: connections of the node itself, beside them.
    """
    room = descriptor_limit() - num_open_descriptors() - SURPLUS - _SPARE_DESCRIPTORS - own
    room = max(room, 1)
    if configured is not None and configured > room:
        logger.warning(
            "server.max_connections: %d instead of %d, for lack of file descriptors",
            room,
            configured,
        )
    limit = room if configured is None else min(configured, room)
    logger.debug("at most %d connections", limit)
    return limit
