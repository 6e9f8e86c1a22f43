"""Server-sent events: an answer, written to the client while it grows."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from sanic import HTTPResponse, Request
from sanic.exceptions import SanicException

from mlxnode.server.answer.choice import ChoiceDelta
from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import ApiError
from mlxnode.server.seldom import SeldomLog

seldom = SeldomLog(logging.getLogger("mlxnode.server"))

# Seconds. Proxies close a connection that is silent for a minute (nginx's proxy_read_timeout).
KEEP_ALIVE_EVERY = 10.0
# A proxy that collects a stream (nginx) would deliver it in one piece at the end.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def stream_answer(
    request: Request,
    generation: Generation,
    writer: AnswerWriter,
    *,
    keep_alive_after: float,
) -> None:
    """Answer ``request`` with events; all that arrived together goes into one write.

    The stream begins with the first update of the engine, or after ``keep_alive_after``
    seconds. A failure before that is an HTTP status. A later failure is the last event, without
    ``end``: clients take a stream that only ends for a complete one.

    Raises:
        ApiError: the engine refused the request or failed before the stream began.
    """
    has_news = await generation.wait(keep_alive_after)
    deltas = await generation.receive() if has_news else []
    opening = writer.opening_chunks(generation.usage)
    stream = await _EventStream.begin(request, writer)
    try:
        chunks = [*opening, *_chunks_of(deltas, writer)]
        while not generation.is_finished:
            await stream.send(chunks)
            chunks = []
            if await generation.wait(stream.patience):
                chunks = _chunks_of(await generation.receive(), writer)
        chunks += writer.closing_chunks(generation.usage)
        await writer.before_end()
        await stream.end(chunks, writer.end)
    except ApiError as error:
        line = "stream %s ended early: %s", request.ctx.request_id, error.message
        seldom.log(logging.WARNING, error.message, *line)
        await stream.end([], writer.failure(error))
    except SanicException:
        raise  # the client has left
    except Exception as error:
        kind, line = type(error).__name__, "stream %s failed"
        seldom.log(logging.ERROR, kind, line, request.ctx.request_id, exc_info=error)
        failure = ApiError("The server had an error while processing the request")
        await stream.end([], writer.failure(failure))


class _EventStream:
    """The events of one answer, with keep-alive events where it is silent."""

    def __init__(self, response: HTTPResponse, writer: AnswerWriter):
        self._response = response
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._written_at: float | None = None  # None: not even the head is written

    @classmethod
    async def begin(cls, request: Request, writer: AnswerWriter) -> "_EventStream":
        """The stream that answers ``request``. Its head is written with its first events."""
        response = await request.respond(
            content_type="text/event-stream; charset=utf-8", headers=_HEADERS
        )
        if not isinstance(response, HTTPResponse):
            raise RuntimeError("a middleware replaced the response by one that cannot stream")
        return cls(response, writer)

    @property
    def patience(self) -> float:
        """Seconds until the stream has been silent for too long."""
        if self._written_at is None:
            return KEEP_ALIVE_EVERY
        return max(self._written_at + KEEP_ALIVE_EVERY - self._loop.time(), 0.0)

    async def send(self, chunks: Sequence[msgspec.Struct]) -> None:
        """Write ``chunks``. If there are none, write a keep-alive event if it is due."""
        data = b"".join(map(self._writer.frame, chunks))
        if not chunks and self._written_at is not None:
            if self.patience > 0:
                return
            data = self._writer.keep_alive()
        await self._response.send(data)
        self._written_at = self._loop.time()

    async def end(self, chunks: Sequence[msgspec.Struct], last: bytes) -> None:
        """Write ``chunks`` and the ``last`` event."""
        data = b"".join([*map(self._writer.frame, chunks), last])
        await self._response.send(data, end_stream=True)


def _chunks_of(deltas: Sequence[ChoiceDelta], writer: AnswerWriter) -> list[msgspec.Struct]:
    return [chunk for delta in deltas for chunk in writer.chunks(delta)]
