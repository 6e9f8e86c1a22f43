"""Server-sent events: an answer, written to the client while it grows."""

import logging

import msgspec
from sanic import HTTPResponse, Request

from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import ApiError

logger = logging.getLogger("mlxnode.server")


async def stream_answer(request: Request, generation: Generation, writer: AnswerWriter) -> None:
    """Answer ``request`` with events; all that arrived together goes into one write.

    Nothing is sent before the first update of the engine, so that a failure before it is an
    HTTP status. A later failure is an ``error`` event and the end, without ``[DONE]``: clients
    take a stream that only ends for a complete one.

    Raises:
        ApiError: the engine refused the request or failed before the first token.
    """
    deltas = await generation.receive()
    chunks: list[msgspec.Struct] = [*writer.opening_chunks(generation.usage)]
    response = await _start(request)
    try:
        while True:
            for delta in deltas:
                chunks += writer.chunks(delta)
            if generation.is_finished:
                break
            if chunks:
                await response.send(b"".join(map(writer.frame, chunks)))
            chunks = []
            deltas = await generation.receive()
        chunks += writer.closing_chunks(generation.usage)
        await response.send(b"".join([*map(writer.frame, chunks), writer.end]), end_stream=True)
    except ApiError as error:
        logger.warning("stream %s ended early: %s", request.ctx.request_id, error.message)
        events = [*map(writer.frame, chunks), writer.failure(error)]
        await response.send(b"".join(events), end_stream=True)


async def _start(request: Request) -> HTTPResponse:
    """Send the head of a stream."""
    response = await request.respond(
        content_type="text/event-stream; charset=utf-8", headers={"cache-control": "no-cache"}
    )
    if not isinstance(response, HTTPResponse):
        raise RuntimeError("a middleware replaced the response by one that cannot stream")
    return response
