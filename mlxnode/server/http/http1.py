"""HTTP/1.1 between a socket and Sanic: heads, bodies and the ends of connections.

Sanic's own parser takes what RFC 9112 forbids, and sees no byte here.
"""

import asyncio
import contextlib
import logging
from typing import Any

from sanic import Request
from sanic.compat import Header
from sanic.exceptions import (
    ExpectationFailed,
    PayloadTooLarge,
    RequestCancelled,
    ServerError,
)
from sanic.headers import format_http1_response
from sanic.helpers import has_message_body
from sanic.http import Http, Stage

from mlxnode.server.errors import ApiError, InvalidRequest
from mlxnode.server.http.chunks import ChunkedBody
from mlxnode.server.http.head import Head, HeadReader

logger = logging.getLogger("mlxnode.server")

MAX_HEAD = 16_384  # bytes; browsers send the cookies of all ports of localhost
_LINGER = 5.0  # seconds without a byte until the connection is closed
_MAX_LINGER = 30.0  # seconds in all, as in nginx
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = "chunked"  # Sanic's word in ``request_body``


class Http1(Http):
    """One connection. It has four rules that Sanic lacks.

    - Whatever is no strict HTTP/1.1 or HTTP/1.0 is refused, and the connection closed.
    - A client that ends its side after its request still gets the answer.
    - An answer that comes before the body was read reaches its client.
    - A client of HTTP/1.0 gets a stream without chunks, which it cannot read. The stream ends
      where the connection does (RFC 9112, section 6.3). nginx asks for it in this way unless
      its ``proxy_http_version`` is 1.1.
    """

    __slots__ = ("_chunks", "_connection", "_lingers")

    def __init__(self, protocol: Any):
        super().__init__(protocol)
        self._connection = protocol  # HalfClosable
        self._lingers = False  # bytes of the client may come that nobody reads
        self._chunks: ChunkedBody | None = None

    # --- the connection -------------------------------------------------------------

    async def http1(self) -> None:
        """Serve the requests of the connection, one after the other."""
        while self.keep_alive and self.stage is Stage.IDLE:
            self.init_for_request()
            if not self.recv_buffer and not await self._has_received():
                return
            self.stage = Stage.REQUEST
            await self._serve()
            if self.recv_buffer:  # a client that sends many at once leaves others their turn
                await asyncio.sleep(0)
        if self._lingers:
            await self._linger()

    async def _serve(self) -> None:
        """Read a request, and answer it."""
        try:
            self.response_func = self.http1_response_header
            await self.http1_request_header()
            self.stage = Stage.HANDLER
            self.request.conn_info = self.protocol.conn_info
            await self.protocol.request_handler(self.request)
            if self.stage is Stage.HANDLER:
                raise ServerError("Handler produced no response")
            if self.stage is Stage.RESPONSE:
                await self.response.send(end_stream=True)
        except asyncio.CancelledError as cancelled:
            await self._answer_cancelled(cancelled)
        except Exception as error:
            self._lingers |= self.stage is Stage.REQUEST
            await self.error_response(error)
        finally:
            if self.request:
                self.request.stream = None
            if self.response:
                self.response.stream = None

    async def _answer_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        """Answer a request that was ended from outside: with ``exception`` if that is set."""
        if not self.protocol.transport:
            logger.debug("a request ended with its connection")
            return
        has_left = self._connection.conn_info.lost
        error: Any = RequestCancelled() if has_left else (self.exception or cancelled)
        self.exception = None
        self.keep_alive = False
        await self.error_response(error)

    async def _has_received(self) -> bool:
        """Wait for bytes. False if the client sends no more."""
        num_bytes = len(self.recv_buffer)
        if not self._connection.has_ended:
            await self._receive_more()
        return len(self.recv_buffer) > num_bytes

    async def _receive(self) -> None:
        """Wait for bytes of a request that is not complete."""
        if not await self._has_received():
            raise self._fatal(InvalidRequest("The connection ended before the request did"))

    def _fatal(self, error: ApiError) -> ApiError:
        """The ``error``, after which no byte of the connection has a meaning."""
        self.keep_alive = False
        self.request_body = None
        self._lingers = True
        return error

    async def _linger(self) -> None:
        """Tell the client that nothing follows, and drop what it still sends for some seconds.

        A close while the client sends would reset the connection before it reads the answer.
        """
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_LINGER):
                is_sending = True
                while is_sending:
                    self.recv_buffer.clear()
                    async with asyncio.timeout(_LINGER):
                        is_sending = await self._has_received()

    # --- requests -------------------------------------------------------------------

    async def http1_request_header(self) -> None:
        """Receive a head, and make it Sanic's request."""
        reader = HeadReader(MAX_HEAD)
        try:
            while (head := reader.read(self.recv_buffer)) is None:
                await self._receive()
        except ApiError as error:
            self.url = reader.target or None
            raise self._fatal(error) from error
        self.url = head.target
        self.head_only = head.method == "HEAD"
        self.keep_alive = head.keep_alive and self.protocol.app.config.KEEP_ALIVE
        self._expect_body(head)
        self.request = self._to_request(head)
        self.request.stream = self
        self.protocol.state["requests_count"] += 1

    def _to_request(self, head: Head) -> Request:
        request = self.protocol.request_class(
            url_bytes=head.target.encode(),
            headers=Header(head.fields),
            head=head.raw,
            version=head.version,
            method=head.method,
            transport=self.protocol.transport,
            app=self.protocol.app,
        )
        Request._current.set(request)
        return request

    def _expect_body(self, head: Head) -> None:
        self._chunks = ChunkedBody() if head.length is None else None
        self.request_bytes = self.request_bytes_left = head.length or 0
        body: Any = _CHUNKED if self._chunks else bool(head.length) or None
        self.request_body = body
        expected = [value.lower() for value in head.values("expect")]
        if not self.request_body or not expected or head.version == "1.0":
            return
        if expected != ["100-continue"]:
            raise ExpectationFailed("Expect must be '100-continue'")
        self.expecting_continue = True

    async def read(self) -> bytes | None:
        """The next bytes of the body; None at its end.

        Raises:
            PayloadTooLarge: the body has more than ``request_max_size`` bytes.
            InvalidRequest: it is malformed, or the client's side has ended before it.
        """
        if self.request_bytes > self.request_max_size:
            raise self._too_large()
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(_CONTINUE)
        if self._chunks is not None:
            return await self._read_chunks(self._chunks)
        if not self.request_bytes_left:
            self.request_body = None
            return None
        if not self.recv_buffer:
            await self._receive()
        data = bytes(self.recv_buffer[: self.request_bytes_left])
        del self.recv_buffer[: len(data)]
        self.request_bytes_left -= len(data)
        return data

    async def _read_chunks(self, chunks: ChunkedBody) -> bytes | None:
        while not chunks.is_complete:
            num_bytes = len(self.recv_buffer)
            try:
                data = chunks.read(self.recv_buffer)
            except ApiError as error:
                raise self._fatal(error) from error
            self.request_bytes += len(data)
            if self.request_bytes > self.request_max_size:
                raise self._too_large()
            if data:
                await asyncio.sleep(0)  # others have their turn between many small chunks
                return data
            if len(self.recv_buffer) == num_bytes:
                await self._receive()
        self.request_body = None
        return None

    def _too_large(self) -> PayloadTooLarge:
        self.keep_alive = False
        return PayloadTooLarge("Request body exceeds the size limit")

    # --- answers --------------------------------------------------------------------

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of a response, and its first ``data``."""
        if self.request_body:
            self._leave_body()
        response = self.response
        if (
            self.request.version != "1.0"
            or end_stream
            or self.head_only
            or getattr(response, "body", None)
            or "content-length" in response.headers
            or not has_message_body(response.status)
        ):
            await super().http1_response_header(data, end_stream)
            return
        self.keep_alive = False
        response.headers["connection"] = "close"
        self.response_func = self._send_as_it_is
        await self._send(
            format_http1_response(response.status, response.processed_headers) + data
        )
        self.stage = Stage.RESPONSE

    def framed_event(self, event: bytes) -> bytes:
        """The bytes that add ``event`` to the response; none if it is no stream of events."""
        if not str(self.response.content_type).startswith("text/event-stream"):
            return b""
        is_chunked = self.response_func == self.http1_response_chunked
        return b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event

    def _leave_body(self) -> None:
        """Answer without the rest of the body: drop it if it is here, else close afterwards."""
        if self._chunks is None and self.request_bytes_left <= len(self.recv_buffer):
            del self.recv_buffer[: self.request_bytes_left]
        else:
            self.keep_alive = False
            self._lingers = True
        self.expecting_continue = False  # the answer itself says that the body is not wanted
        self.request_body = None

    async def _send_as_it_is(self, data: bytes, end_stream: bool) -> None:
        """Send a part of the body. At the end, the connection is closed."""
        if data:
            await self._send(data)
        if end_stream:
            self.response_func = None
            self.stage = Stage.IDLE
