"""Server-sent events: an answer, written to the client while it grows."""

import logging
from collections.abc import Sequence

import msgspec
from sanic import HTTPResponse, Request

from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import ApiError, ErrorBody, ErrorEnvelope

logger = logging.getLogger("mlxnode.server")

_DONE = b"data: [DONE]\n\n"


async def stream_answer(request: Request, generation: Generation, writer: AnswerWriter) -> None:
    """Answer ``request`` with events; all that arrived together goes into one write.

    Nothing is sent before the first update of the engine, so that a failure before it is an
    HTTP status. A later failure is an ``error`` event and the end, without ``[DONE]``: clients
    take a stream that only ends for a complete one.

    Raises:
        ApiError: the engine refused the request or failed before the first token.
    """
    deltas = await generation.receive()
    events: list[msgspec.Struct] = [*writer.opening_chunks()]
    response = await _start(request)
    try:
        while True:
            for delta in deltas:
                events += writer.chunks(delta)
            if generation.is_finished:
                break
            if events:
                await response.send(_encode(events))
            events = []
            deltas = await generation.receive()
        events += writer.closing_chunks(generation.usage)
        await response.send(_encode(events) + _DONE, end_stream=True)
    except ApiError as error:
        logger.warning("stream %s ended early: %s", request.ctx.request_id, error.message)
        body = ErrorBody(error.message, "server_error", None, error.code)
        await response.send(_encode([*events, ErrorEnvelope(body)]), end_stream=True)


async def _start(request: Request) -> HTTPResponse:
    """Send the head of a stream."""
    response = await request.respond(
        content_type="text/event-stream; charset=utf-8", headers={"cache-control": "no-cache"}
    )
    if not isinstance(response, HTTPResponse):
        raise RuntimeError("a middleware replaced the response by one that cannot stream")
    return response


def _encode(bodies: Sequence[msgspec.Struct]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(body) for body in bodies)
