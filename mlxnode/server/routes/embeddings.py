"""``POST /v1/embeddings``."""

import base64

import numpy as np
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.embeddings.answers import Embedding, EmbeddingList, EmbeddingUsage
from mlxnode.server.formats.embeddings.request import encode_inputs
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.http.body import json_response, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.prompt.lanes import off_loop_if
from mlxnode.server.registry.opened import EmbeddingModel
from mlxnode.server.routes.embed import embed, normalized

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
    body = await read_body(request, EmbeddingBody)
    model = await registry_of(request).find_embedding(body.model)
    dimensions = _check_dimensions(model, body.dimensions)
    context.engine.check_connected()
    _check_normalize(model, body.normalize)
    limit = context.config.server.max_embedding_tokens
    inputs = await encode_inputs(body, model, limit)
    num_tokens = sum(map(len, inputs))
    vectors = await embed(request, model.served.id, inputs, dimensions)
    is_large = vectors.size > _LARGE_ANSWER
    return await off_loop_if(is_large, _to_response, body, model, vectors, num_tokens)


def _to_response(
    body: EmbeddingBody, model: EmbeddingModel, vectors: np.ndarray, num_tokens: int
) -> HTTPResponse:
    if body.normalize:
        vectors = normalized(vectors)
    if body.encoding_format == "base64":
        encoded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    else:
        encoded = vectors.tolist()
    data = [Embedding(index, vector) for index, vector in enumerate(encoded)]
    usage = EmbeddingUsage(num_tokens, num_tokens)
    return json_response(EmbeddingList(model.served.id, data, usage))


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


def _check_normalize(model: EmbeddingModel, requested: bool | None) -> None:
    """Raises InvalidRequest for vectors as they are of a model that normalizes its vectors."""
    if requested is False and model.config.normalize:
        raise InvalidRequest(
            "Unsupported value: 'normalize' cannot be false: this model has it built in.",
            param="normalize",
            code="unsupported_value",
        )
