"""``/v1/models``: the models of the node, and which of them are loaded."""

from urllib.parse import unquote

from msgspec import UNSET
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import ErrorEnvelope
from mlxnode.server.formats.messages.errors import MessagesErrorEnvelope
from mlxnode.server.formats.messages.models import ModelInfo, ModelPage, PageQuery
from mlxnode.server.formats.models import Fit, LoadBody, Model, ModelList, UnloadBody
from mlxnode.server.http.accounting import account_of
from mlxnode.server.http.body import json_response, read_optional_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.envelope import VERSION_PARAMETER, speaks_anthropic
from mlxnode.server.http.query import read_query
from mlxnode.server.registry.facts import Facts
from mlxnode.server.registry.registry import Registry

blueprint = Blueprint("models")

_READ = ["GET", "HEAD"]


@blueprint.route(
    "/v1/models",
    methods=_READ,
    ctx_answer=(ModelList, ModelPage),
    ctx_error=(ErrorEnvelope, MessagesErrorEnvelope),
    ctx_query=PageQuery,
    ctx_parameters=(VERSION_PARAMETER,),
)
async def list_models(request: Request) -> HTTPResponse:
    """All models, and which of them are loaded or failed; in Anthropic's shape if asked so."""
    registry, query = registry_of(request), read_query(request, PageQuery)
    facts = await registry.facts()
    models = [_to_model(registry, id, facts) for id in registry.types]
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
    registry = registry_of(request)
    id = registry.id_of(unquote(model_id))
    model = _to_model(registry, id, await registry.facts())
    return json_response(ModelInfo.of(model) if speaks_anthropic(request) else model)


@blueprint.post(
    "/v1/models/<model_id:path>/load",
    ctx_operates=True,
    ctx_optional_body=LoadBody,
    ctx_answer=Model,
)
async def load_model(request: Request, model_id: str) -> HTTPResponse:
    """Load a model, and pin it if asked so; answered once it is loaded."""
    body = await read_optional_body(request, LoadBody)
    registry, engine = registry_of(request), context_of(request).engine
    account_of(request).model = id = registry.id_of(unquote(model_id))
    engine.check_connected()
    registry.opener.try_again(id)
    await registry.find_any(id)
    await engine.load(id, pin=body.pin)
    await registry.catalog.until(
        lambda: _is_loaded(registry, id, body.pin)
    )  # it tells that afterwards
    return json_response(_to_model(registry, id, await registry.facts()))


@blueprint.post(
    "/v1/models/<model_id:path>/unload",
    ctx_operates=True,
    ctx_optional_body=UnloadBody,
    ctx_answer=Model,
)
async def unload_model(request: Request, model_id: str) -> HTTPResponse:
    """Unload a model once its requests have ended; the next request for it loads it again."""
    await read_optional_body(request, UnloadBody)
    registry, engine = registry_of(request), context_of(request).engine
    account_of(request).model = id = registry.id_of(unquote(model_id))
    engine.check_connected()
    await engine.unload(id)
    await registry.catalog.until(lambda: registry.catalog.state(id) == "unloaded")
    return json_response(_to_model(registry, id, await registry.facts()))


def _is_loaded(registry: Registry, model_id: str, pin: bool | None) -> bool:
    catalog = registry.catalog
    is_as_asked = pin is None or catalog.is_pinned(model_id) == pin
    return catalog.state(model_id) == "loaded" and is_as_asked


def _to_model(registry: Registry, model_id: str, facts: dict[str, Facts]) -> Model:
    catalog = registry.catalog
    status, reason = registry.status_of(model_id)
    model = Model(
        id=model_id,
        created=0,
        type=registry.types[model_id],
        status=status,
        reason=UNSET if reason is None else reason,
        aliases=catalog.names_of(model_id),
        pinned=catalog.is_pinned(model_id),
    )
    if (fit := catalog.fits.get(model_id)) is not None:
        model.fit = Fit(*fit)
    if (served := catalog.described.get(model_id)) is not None:
        quantization = facts.get(model_id, Facts()).quantization
        model.created = served.created
        model.context_length = model.max_model_len = served.context_length
        model.dimensions = UNSET if served.dimensions is None else served.dimensions
        model.size_bytes = served.size_bytes
        model.quantization = UNSET if quantization is None else quantization
        model.adapter = UNSET if served.adapter is None else served.adapter.name
    return model
