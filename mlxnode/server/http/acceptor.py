"""Accepts connections, and no more of them than the worker has file descriptors for."""

import asyncio
import functools
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from sanic import Request, Sanic
from sanic.exceptions import RequestTimeout
from sanic.http import Stage

from mlxnode.config.exposure import is_loopback
from mlxnode.server.errors import ApiError
from mlxnode.server.http.addresses import network_of
from mlxnode.server.http.bytes_in_flight import Share
from mlxnode.server.http.deadlines import Deadlines
from mlxnode.server.http.half_close import HalfClosable
from mlxnode.server.http.tcp import drop_unsent, probe_when_silent
from mlxnode.server.http.tls import HANDSHAKE_TIMEOUT, SHUTDOWN_TIMEOUT, Tls, speaks_tls

logger = logging.getLogger("mlxnode.server")

SURPLUS = 32  # connections beyond the limit that can be told so at the same time
_SURPLUS_TIMEOUT = 2.0  # seconds without a byte until a surplus connection is closed
_SURPLUS_LIFETIME = 10.0  # seconds until it is closed, whatever its client does
_SURPLUS_DELAY = 0.1  # seconds that workers with room have to take a connection instead
_RETRY_DELAY = 0.5  # seconds until the next try, where the system has no descriptor left
_QUIET = 60.0  # seconds between two lines in the log about it
_AT_ONCE = 16  # connections accepted before other work has its turn
_GREEDY = 8  # surplus connections for addresses that have all that they may have


class Connection(HalfClosable):
    """One connection. ``is_surplus``: it is beyond the limit, for one answer only.

    ``is_encrypted``: it speaks TLS. ``is_mistaken``: it does not, and has to. ``is_inner``: the
    client is a process of this node.
    """

    __slots__ = (
        "_deadlines",
        "_on_lost",
        "_written",
        "address",
        "is_encrypted",
        "is_inner",
        "is_mistaken",
        "is_surplus",
        "share",
    )

    def __init__(
        self,
        *,
        address: str,
        is_surplus: bool,
        on_lost: Callable[["Connection"], None],
        is_inner: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.address = address  # of the client, see ``network_of``
        self.is_surplus = is_surplus
        self.is_inner = is_inner
        self.share: Share | None = None  # the bytes in flight of the body
        self.is_encrypted = self.is_mistaken = False
        self._on_lost = on_lost
        self._written = 0  # bytes
        if is_surplus:
            self.keep_alive_timeout = self.request_timeout = _SURPLUS_TIMEOUT
            self.loop.call_later(_SURPLUS_LIFETIME, self.abort)
        self._deadlines = Deadlines(
            idle=self.keep_alive_timeout,
            head=self.request_timeout,
            write=self.app.config.WRITE_TIMEOUT,
        )

    def cut(self, error: ApiError) -> None:
        """End the request: with ``error`` if its answer has not begun, else without a word."""
        if self._task is not None and self.http is not None:
            self.http.exception = error
            self._task.cancel()

    def keep_share(self, size: int) -> None:
        """Hold no more than ``size`` bytes in flight."""
        if self.share is not None:
            self.share.shrink(size)
            self.share = self.share if size else None

    async def send(self, data: bytes) -> None:
        """Write ``data`` as soon as the client has taken most of what was written before."""
        await super().send(data)
        self._written += len(data)

    def _can_half_close(self) -> bool:
        """A process of this node never ends its side alone: its end ends the request."""
        return not self.is_inner and super()._can_half_close()

    def check_timeouts(self) -> None:
        """End the connection if its client is late; look again after a while."""
        if self.transport is None or self.conn_info is None or self.conn_info.lost:
            return
        waiting = self.transport.get_write_buffer_size()
        stage = Stage.RESPONSE if self.http is None else self.http.stage
        num_heads = self.state["requests_count"]
        now = self.loop.time()
        late = self._deadlines.exceeded(now, stage, num_heads, self._written, waiting)
        if late == "write" or (self._task is None and not waiting):
            # The end of TLS can be a thing that the client does not take either.
            drop_unsent(self.transport.get_extra_info("socket"))
            self.transport.abort()
            return
        if late is not None and self._task is not None and self.http is not None:
            self.http.exception = RequestTimeout("The request's head took too long to arrive")
            self._task.cancel()
        self._callback_check_timeouts = self.loop.call_later(
            self._deadlines.interval, self.check_timeouts
        )

    def close(self, timeout: float | None = None) -> None:
        """Close as soon as the client has taken what was written, however slowly."""
        if self.transport is None:
            return
        if self.transport.is_closing():
            if self.conn_info is not None and self.conn_info.lost:
                self.transport = None  # they would keep each other in memory
            return
        if self._callback_check_timeouts:
            self._callback_check_timeouts.cancel()
        self.transport.close()
        self._callback_check_timeouts = self.loop.call_later(
            self._deadlines.interval, self.check_timeouts
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._callback_check_timeouts:
            self._callback_check_timeouts.cancel()
        super().connection_lost(exc)
        self.keep_share(0)
        self._on_lost(self)


def is_surplus(request: Request) -> bool:
    """True if ``request`` came over a connection beyond the limit of the worker."""
    protocol = getattr(request.stream, "protocol", None)
    return isinstance(protocol, Connection) and protocol.is_surplus


def is_mistaken(request: Request) -> bool:
    """True if ``request`` came in plain text to a node that speaks TLS."""
    protocol = getattr(request.stream, "protocol", None)
    return isinstance(protocol, Connection) and protocol.is_mistaken


def is_inner(request: Request) -> bool:
    """True if ``request`` came over the inner socket: it is one of the node's own."""
    protocol = getattr(request.stream, "protocol", None)
    return isinstance(protocol, Connection) and protocol.is_inner


class Acceptor:
    """The connections of one worker: at most ``limit``, and for a moment ``SURPLUS`` more.

    ``limit_per_address`` of them can come from one address. Beyond that, ``_GREEDY`` surplus
    connections are told so, and the others are closed at once.

    A surplus connection is accepted late, so that a worker with room gets it, then answered by
    ``app``, and closed. While there are ``SURPLUS`` of them, or no descriptor is left, further
    clients wait in the system's queue. libuv's own server would close their connections
    without an answer (``uv__emfile_trick``).
    """

    def __init__(
        self,
        app: Sanic,
        listener: socket.socket,
        limit: int,
        tls: Tls,
        limit_per_address: int | None = None,
        *,
        is_inner: bool = False,
    ):
        self._tls = tls
        self.connections: set[Connection] = set()
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._num_by_address: Counter[str] = Counter()
        self._num_surplus = 0
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = self._is_closed = False
        self._quiet_until = 0.0  # no line about missing descriptors before that time
        self._make_connection = functools.partial(
            Connection,
            loop=self._loop,
            app=app,
            state={},
            on_lost=self._forget,
            is_inner=is_inner,
        )
        listener.setblocking(False)

    def start(self) -> None:
        """Accept from now on, as far as there is room."""
        self._timer = None
        if not self._is_closed and not self._is_reading and self._num_free > 0:
            self._loop.add_reader(self._listener.fileno(), self._accept_some)
            self._is_reading = True

    def close(self) -> None:
        """Accept nothing more but what waits in the system's queue. Open connections stay."""
        if self._is_reading:
            self._accept_some(is_late=True)  # a balancer may have sent its request already
        self._stop()
        self._is_closed = True
        self._listener.close()
        if self._tls.context is not None:
            for task in self._tasks:  # the handshakes: no request can have come yet
                task.cancel()

    @property
    def _num_free(self) -> int:
        """The connections that can be accepted, surplus ones included."""
        return self._limit + SURPLUS - len(self.connections)

    def _stop(self, delay: float | None = None) -> None:
        """Stop to accept; start again after ``delay`` seconds, or when there is room."""
        if self._is_reading:
            self._loop.remove_reader(self._listener.fileno())
            self._is_reading = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.call_later(delay, self._start_late)

    def _start_late(self) -> None:
        """Take the connections that no other worker has taken."""
        self.start()
        if self._is_reading:
            self._accept_some(is_late=True)

    def _accept_some(self, *, is_late: bool = False) -> None:
        for _ in range(SURPLUS if is_late else _AT_ONCE):
            is_surplus = len(self.connections) - self._num_surplus >= self._limit
            if self._num_free <= 0:
                return self._stop()
            if is_surplus and not is_late:
                return self._stop(_SURPLUS_DELAY)
            try:
                client, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            except OSError as error:
                if self._loop.time() >= self._quiet_until:
                    logger.error("no connection can be accepted for now: %s", error.strerror)
                    self._quiet_until = self._loop.time() + _QUIET
                return self._stop(_RETRY_DELAY)
            self._open(client, network_of(address), is_surplus)
        return None

    def _open(self, client: socket.socket, address: str, is_surplus: bool) -> None:
        client.setblocking(False)
        if not is_surplus and self._num_by_address[address] >= self._limit_of(address):
            if self._num_surplus >= _GREEDY:
                client.close()
                return
            is_surplus = True
        probe_when_silent(client)
        connection = self._make_connection(address=address, is_surplus=is_surplus)
        self.connections.add(connection)
        self._num_by_address[address] += not is_surplus
        self._num_surplus += is_surplus
        task = self._loop.create_task(self._attach(client, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _limit_of(self, address: str) -> int:
        """The connections that one address may have.

        No address of another machine gets all, so that others can still connect. Behind a
        loopback address are all users of this machine, or all clients of a proxy.
        """
        if self._limit_per_address is not None:
            return self._limit_per_address
        return self._limit if is_loopback(address) else max(self._limit - self._limit // 8, 1)

    async def _attach(self, client: socket.socket, connection: Connection) -> None:
        try:
            await self._hand_over(client, connection)
        except (OSError, asyncio.CancelledError) as error:  # the client has left already
            logger.debug("a connection ended as it began: %s", error)
            client.close()
            self._forget(connection)

    async def _hand_over(self, client: socket.socket, connection: Connection) -> None:
        """Make the connection, after the handshake if the node speaks TLS."""
        options: dict[str, Any] = {}
        if (context := self._tls.context) is not None:
            connection.is_encrypted = await speaks_tls(client)
            connection.is_mistaken = not connection.is_encrypted
        if context is not None and connection.is_encrypted:
            options = {
                "ssl": context,
                "ssl_handshake_timeout": HANDSHAKE_TIMEOUT,
                "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
            }
        await self._loop.connect_accepted_socket(lambda: connection, client, **options)
        if options and connection.conn_info is None:  # lost in the handshake without an error
            raise ConnectionAbortedError("the client left in the handshake")

    def _forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self._num_surplus -= connection.is_surplus
            self._num_by_address[connection.address] -= not connection.is_surplus
            if not self._num_by_address[connection.address]:
                del self._num_by_address[connection.address]
        if self._timer is None:
            self.start()
