"""Sanic's request, with a limit on the time that its body takes to arrive."""

import asyncio
import contextlib
from typing import Any

from sanic import Request
from sanic.exceptions import BadURL, PayloadTooLarge, RequestTimeout
from sanic.http.http1 import Http

from mlxnode.server.http.acceptor import is_surplus

_DISCARD_SECONDS = 5.0


class TimedRequest(Request):
    """A request whose body has to arrive in time; Sanic's own timeout ends with the head."""

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
        """Read the body.

        Raises:
            RequestTimeout: the body did not arrive within REQUEST_TIMEOUT seconds.
            PayloadTooLarge: the body has more than REQUEST_MAX_SIZE bytes.
        """
        http = self._http
        if is_surplus(self):
            # It will not be read. ``app`` refuses the request.
            await _discard(http)
            return
        try:
            # Not wait_for: if the body is complete when the client leaves, it loses the cancel.
            async with asyncio.timeout(self.app.config.REQUEST_TIMEOUT):
                await super().receive_body()
        except TimeoutError:
            _close_after_response(http)
            raise RequestTimeout("The request's body took too long to arrive") from None
        except PayloadTooLarge:
            await _discard(http)
            raise
        # Sanic leaves the transport paused after a large body: the server would not notice
        # that the client leaves.
        if http.protocol.transport is not None:
            http.protocol.transport.resume_reading()

    @property
    def _http(self) -> Http:
        """The state of the HTTP/1.1 connection."""
        if not isinstance(self.stream, Http):
            raise RuntimeError("the connection of the request is closed, or is not HTTP/1.1")
        return self.stream


async def _discard(http: Http) -> None:
    """Read the body for some seconds, then close after the response.

    A close while the client still sends would reset the connection before the client reads the
    response.
    """
    http.request_max_size = float("inf")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            await _discard_body(http)
    _close_after_response(http)


async def _discard_body(http: Http) -> None:
    async for _ in http:
        pass


def _close_after_response(http: Http) -> None:
    http.keep_alive = False
    http.request_body = None  # Sanic would wait for the remaining body.
