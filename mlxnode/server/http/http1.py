"""HTTP/1.1 as Sanic serves it, and streams for clients of HTTP/1.0."""

from sanic.headers import format_http1_response
from sanic.helpers import has_message_body
from sanic.http import Http, Stage


class Http1(Http):
    """One connection. A client of HTTP/1.0 gets a stream without chunks, which it cannot read.

    The stream ends where the connection does (RFC 9112, section 6.3). nginx asks for it in this
    way unless its ``proxy_http_version`` is 1.1.
    """

    __slots__ = ()

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of a response, and its first ``data``."""
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

    async def _send_as_it_is(self, data: bytes, end_stream: bool) -> None:
        """Send a part of the body. At the end, the connection is closed."""
        if data:
            await self._send(data)
        if end_stream:
            self.response_func = None
            self.stage = Stage.IDLE
