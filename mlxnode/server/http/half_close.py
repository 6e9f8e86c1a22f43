"""Connections whose client has ended its side, and still reads (RFC 9112, section 9.6)."""

import asyncio
from typing import Any

from sanic.http import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from mlxnode.server.http.http1 import Http1

# Most answers are there before the first interim response. Where there is none yet, a client
# that is gone costs this much work.
_FIRST_DELAY = 1.0  # seconds
_MIN_DELAY, _MAX_DELAY = 0.05, 8.0  # seconds between probes, doubled each time
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_COMMENT = b":\n\n"  # an event that every client of an event stream ignores


class HalfClosable(HttpProtocol):
    """A connection that tells a client that has ended its side from one that is gone.

    TCP has one sign for both, the end of the client's bytes. But the system of a client that
    is gone resets the connection when bytes arrive for it: the write after that fails, and the
    request ends. So there are probes. Before the answer they are interim responses, which every
    client of HTTP/1.1 skips (RFC 9110, section 15.2), in an event stream they are comments.
    """

    HTTP_CLASS = Http1
    __slots__ = ("_prober", "has_ended")

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.has_ended = False  # the client sends no more
        self._prober: asyncio.Task[None] | None = None

    def eof_received(self) -> bool:
        """True keeps the connection open: the client may wait for an answer."""
        self.has_ended = True
        self._data_received.set()
        is_idle = not self.recv_buffer and (self.http is None or self.http.stage is Stage.IDLE)
        if is_idle or self._task is None or not self._can_half_close():
            return False
        if self._prober is None:
            self._prober = self.loop.create_task(self._probe())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._prober is not None:
            self._prober.cancel()
        super().connection_lost(exc)

    def _can_half_close(self) -> bool:
        """False with TLS: asyncio has no connection there that is open in one direction."""
        return self.transport is not None and self.transport.can_write_eof()

    async def _probe(self) -> None:
        if self.http is None or self.http.stage is not Stage.RESPONSE:
            await asyncio.sleep(_FIRST_DELAY)
        delay = _MIN_DELAY
        while self.transport is not None and not self.transport.is_closing():
            if self.transport.get_write_buffer_size() == 0:
                self._write_probe(self.transport)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_DELAY)

    def _write_probe(self, transport: asyncio.Transport) -> None:
        http = self.http
        if not isinstance(http, Http1):
            return
        if http.stage is Stage.RESPONSE:
            transport.write(http.framed_event(_COMMENT))
        elif http.stage is Stage.HANDLER and http.request.version == "1.0":
            transport.close()  # it has no interim responses
        elif http.stage is Stage.HANDLER:
            transport.write(_INTERIM)
