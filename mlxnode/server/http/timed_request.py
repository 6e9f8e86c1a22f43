"""Sanic's request, with limits on what its body takes of time and of the worker's memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sanic import Request
from sanic.exceptions import BadURL, PayloadTooLarge, RequestTimeout
from sanic.http.http1 import Http

from mlxnode.server.errors import TooLarge, Unavailable
from mlxnode.server.http.acceptor import Connection
from mlxnode.server.http.codings import decode_body

# A body up to this size waits for nothing: a connection holds as much before it is a request.
_FREE = 65_536  # bytes
# A larger one has to come at a rate that lets it arrive in time. Until then, it may pause.
_GRACE = 15.0  # seconds


class TimedRequest(Request):
    """A request whose body is read if its head is admitted, and then has to arrive in time.

    ``app.ctx.admit`` checks the head, and sets ``ctx.max_body_bytes`` and ``ctx.codings``.
    """

    def __init__(self, url_bytes: bytes, *args: Any, **options: Any):
        try:
            super().__init__(url_bytes, *args, **options)
        except BadURL:
            if options["method"] != "NONE":
                raise
            # Sanic makes such a request of its own to answer an error before the request is
            # read. The error is this URL.
            super().__init__(b"*", *args, **options)

    async def receive_body(self) -> None:
        """Check the head; then read the body of a POST, and undo its codings.

        No other method has a body that anybody reads here: ``Http1`` leaves it.

        Raises:
            ApiError: the head is refused, or the body with its codings, or the worker has no
                room for the body within REQUEST_TIMEOUT seconds.
            RequestTimeout: the body did not arrive within REQUEST_TIMEOUT seconds.
        """
        self.app.ctx.admit(self)
        if self.method != "POST":
            return
        http, codings = self._http, self.ctx.codings
        limit = http.request_max_size = self.ctx.max_body_bytes
        # A body of unknown size may become as large as any.
        is_known = http.request_body != "chunked" and not codings
        try:
            size = http.request_bytes if is_known else limit
            self.body = await self._read(http, size or 0)
        except PayloadTooLarge:
            raise TooLarge.of_body(limit) from None
        # Sanic leaves the transport paused after a large body: the server would not notice
        # that the client leaves.
        if http.protocol.transport is not None:
            http.protocol.transport.resume_reading()
        if codings:
            await self._hold(limit)
            self.body = await decode_body(self.body, codings, limit)
        self._connection.keep_share(len(self.body))

    async def stream_body(self, memory: int) -> AsyncIterator[bytes]:
        """The body in pieces, of a route that does not hold it; ``memory``: bytes it takes.

        It has to come as fast as the largest of other bodies would.

        Raises:
            TooLarge: it has more than ``ctx.max_body_bytes`` bytes.
            RequestTimeout: it came too slowly.
            Unavailable: there was no room for ``memory`` bytes in time.
        """
        config, http = self.app.config, self._http
        limit = http.request_max_size = self.ctx.max_body_bytes
        await self._hold(memory)
        received, begun = 0, asyncio.get_running_loop().time()
        is_complete = False
        while not is_complete:
            pace = config.REQUEST_TIMEOUT * (1 + received / config.REQUEST_MAX_SIZE)
            try:
                async with asyncio.timeout_at(begun + pace):
                    piece = await http.read()
            except TimeoutError:
                raise RequestTimeout("The request's body took too long to arrive") from None
            except PayloadTooLarge:
                raise TooLarge.of_body(limit) from None
            is_complete = piece is None
            if piece:
                received += len(piece)
                yield piece
        if http.protocol.transport is not None:
            http.protocol.transport.resume_reading()

    def release_body(self) -> None:
        """Forget the body, which nobody reads any more: others can use its memory."""
        self.body = b""
        if self.stream is not None:
            self._connection.keep_share(0)

    async def _read(self, http: Http, size: int) -> bytes:
        """The body, which holds ``size`` bytes in flight as soon as it is not small."""
        loop, seconds = asyncio.get_running_loop(), self.app.config.REQUEST_TIMEOUT
        pieces: list[bytes] = []
        received = 0
        if is_held := (http.request_bytes or 0) > _FREE:
            await self._hold(size)
        begun = loop.time()
        try:
            # Not wait_for: if the body is complete when the client leaves, it loses the cancel.
            async with asyncio.timeout(seconds) as timer:
                async for piece in http:
                    pieces.append(piece)
                    received += len(piece)
                    if received > _FREE and not is_held:
                        timer.reschedule(None)
                        await self._hold(size)
                        is_held, begun = True, loop.time()
                    if is_held:
                        pace = _GRACE + seconds * received / size
                        timer.reschedule(begun + min(seconds, pace))
        except TimeoutError:
            raise RequestTimeout("The request's body took too long to arrive") from None
        return b"".join(pieces)

    async def _hold(self, size: int) -> None:
        """Wait for ``size`` bytes in flight; what the request holds already is enough as well.

        Raises:
            Unavailable: there was no room for them in time.
        """
        connection = self._connection
        if connection.share is not None:
            return
        try:
            async with asyncio.timeout(self.app.config.REQUEST_TIMEOUT):
                budget = self.app.ctx.bytes_in_flight
                connection.share = await budget.take(connection.address, size)
        except TimeoutError:
            raise Unavailable(
                "The server holds as many bytes of requests as it can; try again soon"
            ) from None

    @property
    def _http(self) -> Http:
        """The state of the HTTP/1.1 connection."""
        if not isinstance(self.stream, Http):
            raise RuntimeError("the connection of the request is closed, or is not HTTP/1.1")
        return self.stream

    @property
    def _connection(self) -> Connection:
        protocol = self._http.protocol
        if not isinstance(protocol, Connection):
            raise RuntimeError("the acceptor has not opened this connection")
        return protocol
