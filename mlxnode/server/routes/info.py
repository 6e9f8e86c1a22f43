"""The server itself: ``/v1/models``, ``/openapi.json``, ``/health`` and ``/``."""

from urllib.parse import unquote

import msgspec
from msgspec import UNSET
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import ErrorEnvelope
from mlxnode.server.formats.info import Health, Model, ModelList, Root
from mlxnode.server.formats.messages.errors import MessagesErrorEnvelope
from mlxnode.server.formats.messages.models import ModelInfo, ModelPage, PageQuery
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.envelope import VERSION_PARAMETER, speaks_anthropic
from mlxnode.server.http.openapi import describe
from mlxnode.server.http.query import read_query
from mlxnode.server.registry import Registry

blueprint = Blueprint("info")

_READ = ["GET", "HEAD"]


@blueprint.route("/", methods=_READ, ctx_public=True, ctx_answer=Root)
async def root(request: Request) -> HTTPResponse:
    """What this is; needs no key. Clients ask for it to see whether somebody answers."""
    return json_response(Root())


@blueprint.route(
    "/v1/models",
    methods=_READ,
    ctx_answer=(ModelList, ModelPage),
    ctx_error=(ErrorEnvelope, MessagesErrorEnvelope),
    ctx_query=PageQuery,
    ctx_parameters=(VERSION_PARAMETER,),
)
async def list_models(request: Request) -> HTTPResponse:
    """The configured models, and which of them failed; in Anthropic's shape if asked so."""
    registry, query = registry_of(request), read_query(request, PageQuery)
    models = [_to_model(registry, id) for id in registry.types]
    if speaks_anthropic(request):
        return json_response(query.page(models))
    return json_response(ModelList(models))


# Ids have slashes, plain or as %2F.
@blueprint.route(
    "/v1/models/<model_id:path>",
    methods=_READ,
    ctx_answer=(Model, ModelInfo),
    ctx_error=(ErrorEnvelope, MessagesErrorEnvelope),
    ctx_parameters=(VERSION_PARAMETER,),
)
async def show_model(request: Request, model_id: str) -> HTTPResponse:
    """One model; in Anthropic's shape if asked so."""
    registry, model_id = registry_of(request), unquote(model_id)
    registry.check_known(model_id)
    model = _to_model(registry, model_id)
    return json_response(ModelInfo.of(model) if speaks_anthropic(request) else model)


@blueprint.route("/openapi.json", methods=_READ)
async def openapi(request: Request) -> HTTPResponse:
    """This document."""
    documents, registry = request.app.ctx.documents, registry_of(request)
    context = context_of(request)
    kind = (context.rate_limiter.enabled, *registry.served)
    if kind not in documents:
        documents[kind] = msgspec.json.encode(describe(request.app, context, registry))
    return HTTPResponse(documents[kind], content_type="application/json")


@blueprint.route("/health", methods=_READ, ctx_public=True, ctx_answer=Health)
async def health(request: Request) -> HTTPResponse:
    """Whether requests can be served now; needs no key."""
    context = context_of(request)
    context.engine.check_answering()
    return json_response(Health("ok", "ok", sorted(context.registry.failed)))


def _to_model(registry: Registry, model_id: str) -> Model:
    model = Model(id=model_id, created=0, type=registry.types[model_id])
    if (reason := registry.failed.get(model_id)) is not None:
        model.status, model.reason = "failed", reason
    if (served := registry.described.get(model_id)) is not None:
        model.created = served.created
        model.context_length = model.max_model_len = served.context_length
        model.dimensions = UNSET if served.dimensions is None else served.dimensions
    return model
