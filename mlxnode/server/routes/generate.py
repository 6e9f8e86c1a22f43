"""Generates text for an endpoint: reserve, generate, answer, settle."""

import logging
from collections.abc import Coroutine
from typing import Any, NamedTuple

from sanic import HTTPResponse, Request
from sanic.exceptions import SanicException

from mlxnode.server.answer import affinity
from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.sse import StreamStart, seldom, stream_answer
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import ApiError, InvalidRequest, from_exception
from mlxnode.server.http.accounting import account_of, charge, note_gaps
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of
from mlxnode.server.http.in_flight import flight_of
from mlxnode.server.http.priority import sender_of

_CLAMPED = "x-mlxnode-max-tokens"


class Prepared(NamedTuple):
    """What the engine is asked for, what writes its answer, and its conversation's affinity."""

    request: GenerationRequest
    writer: AnswerWriter
    affinity: str


async def generate(
    http_request: Request,
    preparation: Coroutine[Any, Any, Prepared],
    writer: type[AnswerWriter],
    *,
    is_stream: bool,
) -> HTTPResponse | None:
    """Answer ``http_request`` with generated text; None if the answer was a stream.

    ``preparation`` may take long: it opens the model. A stream begins after
    ``keep_alive_after`` seconds at the latest, also while it is being prepared; ``writer`` is
    the class that writes until then. A client without a stream waits on an open connection,
    which only TCP keeps alive.

    Raises:
        ApiError: the request is refused, or fails before anything was sent.
    """
    if not is_stream:
        return await _generate(http_request, await preparation, None)
    context, flight = context_of(http_request), flight_of(http_request)
    start = StreamStart(http_request, context.config.server.keep_alive_after)
    flight.is_stream = True
    try:
        with flight.cancellable():
            prepared = await start.while_waiting(
                preparation, writer.early_keep_alive, context.preparations
            )
            return await _generate(http_request, prepared, start)
    except SanicException:
        raise  # the client has left
    except Exception as error:
        if start.stream is None or start.stream.is_ended:
            raise
        failure = _to_api_error(error, http_request)
        account_of(http_request).note_error(failure)
        await start.stream.end(writer.early_failure(failure, http_request.ctx.request_id))
        return None
    finally:
        account_of(http_request).num_keep_alives = start.num_keep_alives


async def _generate(
    http_request: Request, prepared: Prepared, start: StreamStart | None
) -> HTTPResponse | None:
    """As ``generate``, of a request that is prepared; ``start`` None: without a stream.

    Any early end aborts the sequences that are still running, and settles the reservation.
    """
    request, writer = prepared.request, prepared.writer
    http_request.ctx.headers[affinity.HEADER] = prepared.affinity
    context = context_of(http_request)
    account = account_of(http_request)
    account.model = model_id = request.model.served.id
    _check_number(request, context.config.engine.max_queue_size)
    sender = sender_of(http_request)
    account.num_sequences = len(request.prompts) * request.num_candidates
    async with context.rate_limiter.reserve(
        http_request.ctx.key_id,
        model_id,
        request.num_prompt_tokens,
        request.num_expected_tokens,
        is_limited=not sender.background,
    ) as reservation:
        http_request.ctx.headers |= reservation.headers
        if request.clamped_to is not None:
            http_request.ctx.headers[_CLAMPED] = str(request.clamped_to)
        account.ask_engine(model_id)
        note_gaps(http_request)
        with context.engine.generate(
            model_id,
            request.prompts,
            request.stop_ids,
            request.samplings,
            sender,
        ) as call:
            generation = Generation(call, request, account.noting(reservation.use))
            account.count_used = lambda: generation.usage
            try:
                with flight_of(http_request).computing(call.cancel):
                    if start is not None:
                        account.note_error(await stream_answer(start, generation, writer))
                        return None
                    choices = await generation.finish()
                    answer = writer.response(choices, generation.usage)
                    await writer.before_end()
                    return json_response(answer)
            finally:
                account.timing = generation.timing
                account.finish_reasons = generation.finish_reasons
                used = generation.charged
                reservation.tokens_used = used.total
                if used.total > 0:
                    charge(http_request, model_id, used.prompt, used.cached, used.completion)


def _to_api_error(error: Exception, request: Request) -> ApiError:
    """``error`` for a client whose stream has begun; what nobody expects is logged."""
    if not isinstance(error, ApiError):
        id, kind = request.ctx.request_id, type(error).__name__
        seldom.log(logging.ERROR, kind, "stream %s failed", id, exc_info=error)
    limit = request.app.config.REQUEST_MAX_SIZE
    return from_exception(error, request.path, request.method, limit)


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
