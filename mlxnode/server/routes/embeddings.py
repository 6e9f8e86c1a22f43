"""``POST /v1/embeddings``."""

import base64

import numpy as np
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.messages import Embedded
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.embeddings.answers import Embedding, EmbeddingList, EmbeddingUsage
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.inputs import TextOrTokens, as_texts, as_token_ids
from mlxnode.server.http.body import json_response, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.prompt.tokenizers import LARGE_TEXT, check_token_ids, off_loop_if
from mlxnode.server.registry import EmbeddingModel

blueprint = Blueprint("embeddings")

_LARGE_ANSWER = 100_000  # numbers; to write them as JSON takes about 30 ms


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
        embedded = await context.engine.embed(model_id, inputs, dimensions)
        reservation.tokens_used = num_tokens
    is_large = len(embedded.vectors) > 4 * _LARGE_ANSWER
    return await off_loop_if(
        is_large, _to_response, model_id, embedded, body.encoding_format, num_tokens
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


def _check_dimensions(model: EmbeddingModel, requested: int | None) -> int | None:
    """The size of the vectors to request from the engine; None for the model's usual size.

    Raises:
        InvalidRequest: the model was not trained to have its vectors cut to this size.
    """
    full = model.dimensions
    if requested is None or requested == full:
        return None
    declared = model.served.matryoshka
    if requested in declared:
        return requested
    supported = sorted({*declared, full})
    is_any = len(supported) == full  # all from 1
    sizes = f"1 to {full}" if is_any else ", ".join(map(str, supported))
    raise InvalidRequest(
        f"Invalid 'dimensions': this model supports {sizes}, got {requested}. "
        "Sizes that it was trained to be cut to are declared by matryoshka_dimensions, in "
        "its config.json or "
        f'in [api.models."{model.served.id}"] of the node\'s configuration.',
        param="dimensions",
        code="unsupported_value",
    )


def _check_total(num_tokens: int, limit: int) -> None:
    """Raises InvalidRequest for more tokens than one request may have."""
    if num_tokens > limit:
        raise InvalidRequest(
            f"Requested {num_tokens} tokens, max {limit} tokens per request.",
            param="input",
            code="max_tokens_per_request",
        )


async def _encode_inputs(model: EmbeddingModel, value: TextOrTokens) -> list[list[int]]:
    """The token ids of each input: of a text with special tokens, or as they were sent.

    Raises:
        InvalidRequest: naming the input that is empty, unknown or too long.
    """
    if texts := as_texts(value):
        is_large = sum(map(len, texts)) > LARGE_TEXT
        inputs = await off_loop_if(is_large, model.tokenizer.encode, texts)
    else:
        inputs = as_token_ids(value)
        check_token_ids(inputs, model.config.vocabulary_size, "input")
    is_single = isinstance(value, str) or isinstance(value[0], int)
    for index, ids in enumerate(inputs):
        if len(ids) > model.max_length:
            problem = f"expected at most {model.max_length} tokens, got {len(ids)}"
            raise _refuse(index, is_single, problem, "context_length_exceeded")
    return inputs


def _refuse(index: int, is_single: bool, problem: str, code: str) -> InvalidRequest:
    path = "input" if is_single else f"input[{index}]"
    return InvalidRequest(f"Invalid '{path}': {problem}.", param=path, code=code)
