"""Server-sent events: an answer, written to the client while it grows."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from sanic import HTTPResponse, Request
from sanic.exceptions import SanicException

from mlxnode.server.answer.choice import ChoiceDelta
from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import SHUTTING_DOWN, ApiError, Cancelled, Unavailable
from mlxnode.server.seldom import SeldomLog

Result = TypeVar("Result")

seldom = SeldomLog(logging.getLogger("mlxnode.server"))

# Seconds. Proxies close a connection that is silent for a minute (nginx's proxy_read_timeout).
KEEP_ALIVE_EVERY = 10.0
# A proxy that collects a stream (nginx) would deliver it in one piece at the end.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def stream_answer(
    start: "StreamStart", generation: Generation, writer: AnswerWriter
) -> ApiError | None:
    """Answer the request of ``start``; all that arrived together goes into one write.

    The stream begins with the first update of the engine, or at its deadline. A failure before
    that is an HTTP status. A later failure is the last event, without ``end``: clients take a
    stream that only ends for a complete one. Returns that failure.

    Raises:
        ApiError: the engine refused the request or failed before the stream began.
    """
    deltas: Sequence[ChoiceDelta] = []
    if start.stream is None and await generation.wait(start.seconds_left):
        deltas = await generation.receive()
    opening = writer.opening_chunks(generation.usage)
    stream = await start.begin()
    try:
        chunks = [*opening, *_chunks_of(deltas, writer)]
        while not generation.is_finished:
            if chunks or not stream.is_written:
                await stream.write(_framed(chunks, writer))
            elif stream.patience <= 0:
                await stream.keep_alive(writer.keep_alive())
            chunks = []
            if await generation.wait(stream.patience):
                chunks = _chunks_of(await generation.receive(), writer)
        chunks += writer.closing_chunks(generation.usage)
        await writer.before_end()
        await stream.end(_framed(chunks, writer) + writer.end)
    except ApiError as error:
        if not isinstance(error, Cancelled):  # whoever cancels it knows
            line = "stream %s ended early: %s", start.request_id, error.message
            seldom.log(logging.WARNING, error.message, *line)
        await stream.end(writer.failure(error))
        return error
    except SanicException:
        raise  # the client has left
    except Exception as error:
        kind, line = type(error).__name__, "stream %s failed"
        seldom.log(logging.ERROR, kind, line, start.request_id, exc_info=error)
        failure = ApiError("The server had an error while processing the request")
        await stream.end(writer.failure(failure))
        return failure
    return None


class EventStream:
    """The events of one answer, and since when it has been silent."""

    def __init__(self, response: HTTPResponse):
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._written_at: float | None = None  # None: not even the head is written
        self.is_ended = False
        self.num_keep_alives = 0

    @property
    def is_written(self) -> bool:
        """True if the head of the answer has been written."""
        return self._written_at is not None

    @property
    def patience(self) -> float:
        """Seconds until the stream has been silent for too long."""
        if self._written_at is None:
            return KEEP_ALIVE_EVERY
        return max(self._written_at + KEEP_ALIVE_EVERY - self._loop.time(), 0.0)

    async def write(self, data: bytes) -> None:
        """Write events; the head of the answer comes before the first ones."""
        await self._response.send(data)
        self._written_at = self._loop.time()

    async def keep_alive(self, data: bytes) -> None:
        """Write what tells the client to wait."""
        self.num_keep_alives += 1
        await self.write(data)

    async def end(self, last: bytes) -> None:
        """Write the ``last`` events."""
        self.is_ended = True
        await self._response.send(last, end_stream=True)


class StreamStart:
    """When the stream that answers ``request`` begins: in time, whatever its model does."""

    def __init__(self, request: Request, keep_alive_after: float):
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + keep_alive_after
        self.stream: EventStream | None = None  # None: it has not begun

    @property
    def request_id(self) -> str:
        return self._request.ctx.request_id

    @property
    def seconds_left(self) -> float:
        """The time until the stream has to begin."""
        return max(self._deadline - self._loop.time(), 0.0)

    @property
    def num_keep_alives(self) -> int:
        """What the stream has written only to be kept alive."""
        return 0 if self.stream is None else self.stream.num_keep_alives

    async def begin(self) -> EventStream:
        """The stream, which begins now at the latest. Its head comes with its first events."""
        if self.stream is None:
            response = await self._request.respond(
                content_type="text/event-stream; charset=utf-8", headers=_HEADERS
            )
            if not isinstance(response, HTTPResponse):
                raise RuntimeError("a middleware replaced the response by one without a stream")
            self.stream = EventStream(response)
        return self.stream

    async def while_waiting(
        self,
        work: Coroutine[Any, Any, Result],
        keep_alive: bytes,
        running: "set[asyncio.Task[Any]]",
    ) -> Result:
        """The result of ``work``. If it takes long, the stream begins, and is kept alive.

        Raises:
            Unavailable: the task of the work, which is in ``running``, was cancelled.
        """
        task = asyncio.get_running_loop().create_task(work)
        running.add(task)
        try:
            await asyncio.wait({task}, timeout=self.seconds_left)
            while not task.done():
                stream = await self.begin()
                await stream.keep_alive(keep_alive)
                await asyncio.wait({task}, timeout=stream.patience)
            if task.cancelled():
                raise Unavailable(SHUTTING_DOWN)
            return task.result()
        finally:
            running.discard(task)
            task.cancel()


def _framed(chunks: Sequence[msgspec.Struct], writer: AnswerWriter) -> bytes:
    return b"".join(map(writer.frame, chunks))


def _chunks_of(deltas: Sequence[ChoiceDelta], writer: AnswerWriter) -> list[msgspec.Struct]:
    return [chunk for delta in deltas for chunk in writer.chunks(delta)]
