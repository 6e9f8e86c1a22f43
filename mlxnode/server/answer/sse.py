"""Server-sent events: a generation, written to the client as it grows."""

import logging

import msgspec
from sanic import Request

from mlxnode.server.answer.generation import Generation
from mlxnode.server.errors import ApiError, ErrorBody, ErrorEnvelope
from mlxnode.server.formats.writer import AnswerWriter

logger = logging.getLogger("mlxnode.server")

_DONE = b"data: [DONE]\n\n"


async def stream_generation(
    request: Request, generation: Generation, writer: AnswerWriter
) -> None:
    """Answer ``request`` with events, in one write for all that arrived together.

    Nothing is sent before the engine has said something, so that a failure up to then is an
    HTTP status. A later one is an ``error`` event and the end, without ``[DONE]``: clients
    would take a stream that just ends for a complete one.

    Raises:
        ApiError: the engine refused or failed before the first token.
    """
    deltas = await generation.receive()
    events: list[msgspec.Struct] = [*writer.opening_chunks()]
    response = await request.respond(
        content_type="text/event-stream; charset=utf-8", headers={"cache-control": "no-cache"}
    )
    try:
        while True:
            events += [chunk for delta in deltas for chunk in writer.chunks(delta)]
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


def _encode(bodies: list[msgspec.Struct]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(body) for body in bodies)
