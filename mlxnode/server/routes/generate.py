"""Generates text for an endpoint: reserve, generate, answer, settle."""

from sanic import HTTPResponse, Request

from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.sse import stream_answer
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of
from mlxnode.server.http.priority import sender_of

_CLAMPED = "x-mlxnode-max-tokens"


async def generate(
    http_request: Request,
    request: GenerationRequest,
    writer: AnswerWriter,
    *,
    is_stream: bool,
) -> HTTPResponse | None:
    """Answer ``http_request`` with generated text; None if the answer was a stream.

    A stream begins after ``keep_alive_after`` seconds at the latest. A client without a stream
    waits on an open connection, which only TCP keeps alive. Any early end aborts the sequences
    that are still running, and settles the reservation.

    Raises:
        ApiError: the request is refused, or fails before anything was sent.
    """
    context = context_of(http_request)
    model_id = request.model.served.id
    _check_number(request, context.config.engine.max_queue_size)
    sender = sender_of(http_request)
    async with context.rate_limiter.reserve(
        http_request.ctx.key_id,
        model_id,
        request.num_prompt_tokens,
        request.num_expected_tokens,
    ) as reservation:
        http_request.ctx.headers |= reservation.headers
        if request.clamped_to is not None:
            http_request.ctx.headers[_CLAMPED] = str(request.clamped_to)
        with context.engine.generate(
            model_id,
            request.prompts,
            request.stop_ids,
            request.samplings,
            sender,
        ) as call:
            generation = Generation(call, request, reservation.use)
            try:
                if is_stream:
                    return await stream_answer(
                        http_request,
                        generation,
                        writer,
                        keep_alive_after=context.config.server.keep_alive_after,
                    )
                choices = await generation.finish()
                answer = writer.response(choices, generation.usage)
                await writer.before_end()
                return json_response(answer)
            finally:
                reservation.tokens_used = generation.tokens_used


def _check_number(request: GenerationRequest, limit: int) -> None:
    """Raises InvalidRequest for more sequences than the engine's queue can hold."""
    count = len(request.prompts) * request.num_candidates
    if count > limit:
        raise InvalidRequest(
            f"This request asks for {count} answers at once (prompts times n or best_of); at "
            f"most {limit} are accepted.",
            param="prompt",
            code="too_many_choices",
        )
