"""The models and the state of the server: ``/v1/models``, ``/openapi.json``, ``/health``."""

from urllib.parse import unquote

import msgspec
from msgspec import UNSET
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.models.served import ServedModel
from mlxnode.server.formats.info import Health, Model, ModelList
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.openapi import describe

blueprint = Blueprint("info")

_READ = ["GET", "HEAD"]


@blueprint.route("/v1/models", methods=_READ, ctx_answer=ModelList)
async def list_models(request: Request) -> HTTPResponse:
    """The models that are served."""
    served = registry_of(request).served.values()
    return json_response(ModelList([_to_model(model) for model in served]))


# Ids have slashes, plain or as %2F.
@blueprint.route("/v1/models/<model_id:path>", methods=_READ, ctx_answer=Model)
async def show_model(request: Request, model_id: str) -> HTTPResponse:
    """One model."""
    return json_response(_to_model(registry_of(request).find(unquote(model_id))))


@blueprint.route("/openapi.json", methods=_READ)
async def openapi(request: Request) -> HTTPResponse:
    """This document."""
    documents, registry = request.app.ctx.documents, registry_of(request)
    models = tuple(registry.served)
    if models not in documents:
        described = describe(request.app, context_of(request), registry)
        documents[models] = msgspec.json.encode(described)
    return HTTPResponse(documents[models], content_type="application/json")


@blueprint.route("/health", methods=_READ, ctx_public=True, ctx_answer=Health)
async def health(request: Request) -> HTTPResponse:
    """Whether requests can be served now; needs no key."""
    context_of(request).engine.check_connected()
    return json_response(Health("ok", "ok"))


def _to_model(served: ServedModel) -> Model:
    return Model(
        id=served.id,
        created=served.created,
        type=served.type,
        context_length=served.context_length,
        max_model_len=served.context_length,
        dimensions=UNSET if served.dimensions is None else served.dimensions,
    )
