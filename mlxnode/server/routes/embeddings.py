"""``POST /v1/embeddings``."""

import base64

import numpy as np
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.messages import Embedded
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.embeddings.answers import Embedding, EmbeddingList, EmbeddingUsage
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.http.body import json_response, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.validation import check_token_ids
from mlxnode.server.prompt.tokenizers import LARGE_TEXT, off_loop_if
from mlxnode.server.registry import EmbeddingModel

blueprint = Blueprint("embeddings")

_LARGE_ANSWER = 100_000  # numbers; writing them as JSON takes about 30 ms


@blueprint.post(
    "/v1/embeddings",
    ctx_models=("embedding",),
    ctx_body=EmbeddingBody,
    ctx_answer=EmbeddingList,
)
async def embeddings(request: Request) -> HTTPResponse:
    """Embed texts or token ids, in their order."""
    context = context_of(request)
    body = read_body(request, EmbeddingBody)
    model = registry_of(request).find_embedding(body.model)
    dimensions = _check_dimensions(model, body.dimensions)
    context.engine.check_connected()
    inputs = await _encode_inputs(model, body.input)
    num_tokens = sum(map(len, inputs))
    _check_total(num_tokens, context.config.server.max_embedding_tokens)
    key_id, model_id = request.ctx.key_id, model.served.id
    async with context.rate_limiter.reserve(key_id, model_id, num_tokens) as reservation:
        request.ctx.headers |= reservation.headers
        with context.engine.embed(model.served.id, inputs, dimensions) as call:
            [(_, embedded)] = await call.receive()
        reservation.tokens_used = num_tokens
    is_large = len(embedded.vectors) > 4 * _LARGE_ANSWER
    return await off_loop_if(
        is_large, _to_response, model.served.id, embedded, body.encoding_format, num_tokens
    )


def _to_response(
    model_id: str, embedded: Embedded, encoding_format: str | None, num_tokens: int
) -> HTTPResponse:
    vectors = np.frombuffer(embedded.vectors, "<f4").reshape(-1, embedded.dimensions)
    if encoding_format == "base64":
        encoded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    else:
        encoded = vectors.tolist()
    data = [Embedding(index, vector) for index, vector in enumerate(encoded)]
    usage = EmbeddingUsage(num_tokens, num_tokens)
    return json_response(EmbeddingList(model_id, data, usage))


def _check_dimensions(model: EmbeddingModel, asked: int | None) -> int | None:
    """What to ask the engine for: None for the size that the model is served with.

    Raises:
        InvalidRequest: a size that the model was not trained to be cut to.
    """
    full = model.served.dimensions
    if asked is None or asked == full:
        return None
    declared = model.served.matryoshka
    if asked in declared:
        return asked
    supported = sorted({*declared, full})
    is_any = len(supported) == full  # all from 1
    sizes = f"1 to {full}" if is_any else ", ".join(map(str, supported))
    raise InvalidRequest(
        f"Invalid 'dimensions': this model supports {sizes}, got {asked}. Sizes that it was "
        "trained to be cut to are declared by matryoshka_dimensions, in its config.json or "
        f'in [api.models."{model.served.id}"] of the node\'s configuration.',
        param="dimensions",
        code="unsupported_value",
    )


def _check_total(num_tokens: int, limit: int) -> None:
    """Raises InvalidRequest for more tokens than the configuration allows in one request."""
    if num_tokens > limit:
        raise InvalidRequest(
            f"Requested {num_tokens} tokens, max {limit} tokens per request.",
            param="input",
            code="max_tokens_per_request",
        )


async def _encode_inputs(
    model: EmbeddingModel, value: str | list[str] | list[int] | list[list[int]]
) -> list[list[int]]:
    """Each input as token ids: texts with special tokens, ids as they were sent.

    Raises:
        InvalidRequest: naming the input that is empty, unknown or too long.
    """
    is_single = isinstance(value, str) or isinstance(value[0], int)
    items = [value] if is_single else value
    if isinstance(items[0], str):
        is_large = sum(map(len, items)) > LARGE_TEXT
        inputs = await off_loop_if(is_large, model.tokenizer.encode, items)
    else:
        inputs = items
        check_token_ids(inputs, model.config.vocabulary_size, "input")
    for index, ids in enumerate(inputs):
        if len(ids) > model.max_length:
            problem = f"expected at most {model.max_length} tokens, got {len(ids)}"
            raise _refuse(index, is_single, problem, "context_length_exceeded")
    return inputs


def _refuse(index: int, is_single: bool, problem: str, code: str) -> InvalidRequest:
    path = "input" if is_single else f"input[{index}]"
    return InvalidRequest(f"Invalid '{path}': {problem}.", param=path, code=code)
