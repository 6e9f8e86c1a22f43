"""The OpenAPI document of the server, derived from its code.

Paths and methods come from Sanic's routes, request bodies from the pydantic schemas, answers
from the msgspec structs. A route names them with ``ctx_body``, ``ctx_answer`` and, if it
streams, ``ctx_event``; if errors have an envelope of their own, with ``ctx_error``. Each of
them is one struct, or several of which one is sent; a stream's events have names if there are
several. Several bodies are ``ctx_bodies``; a body that may be missing is
``ctx_optional_body``, and one that names no model ``ctx_plain_body``. ``ctx_form`` is a form
with a file, ``ctx_media_types`` are those of an answer that is no JSON. ``ctx_query`` is the
struct of the query, ``ctx_parameters`` are headers. The docstring of the handler describes the
operation. A route with ``ctx_is_alias`` is left out, and so is one with ``ctx_admin``: the keys
that read the document cannot use it. One with ``ctx_operates`` is for administrators where
anybody needs a key, and is described for everybody.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sanic import Sanic
from sanic_routing import Route

import mlxnode
from mlxnode.server import errors
from mlxnode.server.errors import ErrorEnvelope
from mlxnode.server.formats.body import Body
from mlxnode.server.http.context import WorkerContext
from mlxnode.server.http.openapi_schemas import (
    REQUEST,
    SCHEMAS,
    answer_schemas,
    bodies_of,
    request_schemas,
    structs_of,
)
from mlxnode.server.registry.facts import Facts
from mlxnode.server.registry.registry import Registry

ERRORS: dict[type[errors.ApiError], str] = {
    errors.InvalidRequest: "The request cannot be served as it is; the error says why.",
    errors.Unauthorized: "No key, or a wrong one.",
    errors.Forbidden: "A key that is for other URLs.",
    errors.NotFound: "No such model.",
    errors.TooLate: "The request took too long to arrive.",
    errors.TooLarge: "The body is larger than the configuration allows.",
    errors.UriTooLong: "The URL is too long.",
    errors.UnknownCoding: "The body has a Content-Encoding that is not supported.",
    errors.RateLimited: "The key has used up its requests or tokens.",
    errors.HeadersTooLarge: "The URL and the headers are too large, or too many.",
    errors.Cancelled: "Somebody has cancelled the request: the code is request_cancelled.",
    errors.EngineFailed: "The server had an error.",
    errors.NotSupported: "A transfer coding that is unknown, or a request to a proxy.",
    errors.Unavailable: "Not now: shutting down, the engine loading, or the queue full.",
    errors.StorageFull: "The disk of the server has no room for the file.",
    errors.VersionNotSupported: "Neither HTTP/1.1 nor HTTP/1.0.",
}
_OF_BODIES = [errors.NotFound, errors.TooLate, errors.TooLarge, errors.UnknownCoding]
_KEYS = {  # one of them is enough
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_TEXT = {"type": "string"}
_OTHERS = {"application/octet-stream": {"type": "string", "format": "binary"}}  # no texts
_COUNT = {"type": "string", "pattern": "^[0-9]+$"}
_HEADERS = {  # of every response
    "x-request-id": ("The client's own if it was printable and short.", _TEXT),
    "request-id": ("The same, by Anthropic's name.", _TEXT),
    "openai-processing-ms": ("Milliseconds until the head of this response.", _COUNT),
    "openai-version": ("The version of OpenAI's API that this is.", _TEXT),
}
_ERROR_HEADERS = {
    errors.Unauthorized: {"www-authenticate": ("Bearer", _TEXT)},
    errors.UnknownCoding: {"accept-encoding": ("The codings that are supported.", _TEXT)},
    errors.RateLimited: {
        "retry-after": ("Seconds.", _COUNT),
        "retry-after-ms": ("Milliseconds.", _COUNT),
    },
    errors.Unavailable: {"retry-after": ("Seconds.", _COUNT)},
}


def _limit_headers() -> dict[str, Any]:
    about = {
        "limit": ("The most that may be used in a minute.", _COUNT),
        "remaining": ("What is left of it now.", _COUNT),
        "reset": ("Until it is full again, as Go writes durations (6m0s, 1.5s).", _TEXT),
    }
    headers: dict[str, Any] = {}
    for kind in ("requests", "tokens"):
        for name, (text, schema) in about.items():
            described = _header(f"{kind}: {text}", schema, required=False)
            headers[f"x-ratelimit-{name}-{kind}"] = described
            if name == "reset":
                text = "When it is full again, as RFC 3339 writes times."
            described = _header(f"{kind}: {text}", schema, required=False)
            headers[f"anthropic-ratelimit-{kind}-{name}"] = described
    return headers


def describe(
    app: Sanic, context: WorkerContext, registry: Registry, facts: Mapping[str, Facts]
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``app``, for its configuration and the models of a key.

    ``facts`` are those of the models.
    """
    named = (route for route in app.router.routes if _is_described(route))
    routes = sorted(named, key=lambda route: route.path)
    paths: dict[str, Any] = {}
    for route in routes:
        # Methods of one path can have a route each.
        paths.setdefault(_path(route), _parameters(route, registry)).update(
            (method.lower(), _operation(route, method, context))
            for method in sorted(route.methods)
        )
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "mlxnode",
            "version": mlxnode.__version__,
            "description": "OpenAI's and Anthropic's APIs over the models of this node.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": request_schemas(routes, context, registry, facts)
            | answer_schemas(routes),
            "responses": {
                _response_name(kind, route): _error(kind, route)
                for route in routes
                for kind in ERRORS
            },
        },
    }
    if context.config.api.require_auth:
        document["security"] = [{name: []} for name in _KEYS]
        document["components"]["securitySchemes"] = _KEYS
    return document


def _is_described(route: Route) -> bool:
    return not (hasattr(route.ctx, "is_alias") or hasattr(route.ctx, "admin"))


def _path(route: Route) -> str:
    return "/" + re.sub(r"<(\w+)(:\w+)?>", r"{\1}", route.path)


def _parameters(route: Route, registry: Registry) -> dict[str, Any]:
    """The parameters of a path, and those beside it; the ids of models are known."""
    names = [*registry.types, *registry.aliases]
    kinds = {"model_id": {"type": "string", "enum": names}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": kinds.get(name, _TEXT)}
        for name in re.findall(r"<(\w+)", route.path)
    ]
    parameters += [other.described for other in getattr(route.ctx, "parameters", ())]
    return {"parameters": parameters} if parameters else {}


def _query(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([query])
    properties = schemas[query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "schema": schema} for name, schema in properties.items()
    ]


def _operation(route: Route, method: str, context: WorkerContext) -> dict[str, Any]:
    is_public = getattr(route.ctx, "public", False)
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__ + ("_head" if method == "HEAD" else ""),
        "summary": route.handler.__doc__,
        "responses": {"200": _answer(route, method, context)},
    }
    if query := getattr(route.ctx, "query", None):
        operation["parameters"] = _query(query)
    kinds = [errors.InvalidRequest, errors.EngineFailed, errors.Unavailable]
    if is_public:
        operation["security"] = []
    elif context.config.api.require_auth:
        kinds += [errors.Unauthorized, errors.Forbidden]
    if (form := getattr(route.ctx, "form", None)) is not None:
        content = {"multipart/form-data": {"schema": form.schema}}
        operation["requestBody"] = {"required": True, "content": content}
        kinds += [errors.StorageFull, *_OF_BODIES]
    elif (plain := _plain_body(route)) is not None:
        reference = {"$ref": f"{SCHEMAS}{REQUEST}{plain.__name__}"}
        operation["requestBody"] = {
            "required": not hasattr(route.ctx, "optional_body"),
            "content": {"application/json": {"schema": reference}},
        }
        kinds += _OF_BODIES
        if hasattr(route.ctx, "stores"):
            kinds.append(errors.StorageFull)
    elif bodies := bodies_of(route):
        references = [{"$ref": f"{SCHEMAS}{REQUEST}{body.__name__}"} for body in bodies]
        schema = references[0] if len(references) == 1 else {"anyOf": references}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
        kinds += [*_OF_BODIES, errors.Cancelled]
        if context.rate_limiter.enabled:
            kinds.append(errors.RateLimited)
    elif structs_of(route, "event"):
        kinds.append(errors.RateLimited)
    elif "<" in route.path or "after" in getattr(query, "__struct_fields__", ()):
        kinds.append(errors.NotFound)
    for kind in sorted(kinds, key=lambda kind: kind.status):
        reference = {"$ref": f"#/components/responses/{_response_name(kind, route)}"}
        operation["responses"][str(kind.status)] = reference
    return operation


def _plain_body(route: Route) -> type[Body] | None:
    """The body of a request that names no model."""
    return getattr(route.ctx, "optional_body", None) or getattr(route.ctx, "plain_body", None)


def _answer(route: Route, method: str, context: WorkerContext) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": route.handler.__doc__,
        "headers": {name: _header(*about) for name, about in _HEADERS.items()},
    }
    if bodies_of(route):
        ignored = "The fields that nobody documents, or that change nothing for this model."
        answer["headers"]["x-mlxnode-ignored"] = _header(ignored, _TEXT, required=False)
        if context.rate_limiter.enabled:
            answer["headers"] |= _limit_headers()
    if method == "HEAD":
        return answer
    if kinds := getattr(route.ctx, "media_types", ()):
        answer["content"] = {kind: {"schema": _OTHERS.get(kind, _TEXT)} for kind in kinds}
        return answer
    answer["content"] = {"application/json": {"schema": _any_of(structs_of(route, "answer"))}}
    if structs_of(route, "event"):
        answer["content"]["text/event-stream"] = {"schema": _event(route)}
    if structs_of(route, "event") and bodies_of(route):
        clamped = "The most tokens of the answer, if the context has no room for all requested."
        answer["headers"]["x-mlxnode-max-tokens"] = _header(clamped, _COUNT, required=False)
        same = "The same in all turns of a conversation; a balancer can route by it."
        answer["headers"]["x-mlxnode-affinity"] = _header(same, _TEXT, required=False)
    return answer


def _event(route: Route) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 describes events."""
    chunks = structs_of(route, "event")
    body = {
        "contentMediaType": "application/json",
        "contentSchema": _any_of([*chunks, *structs_of(route, "error")]),
    }
    if len(chunks) == 1 and chunks[0].__struct_config__.tag is None:
        data = {"type": "string", "anyOf": [{"const": "[DONE]"}, body]}
        return {"type": "object", "required": ["data"], "properties": {"data": data}}
    names = [str(chunk.__struct_config__.tag) for chunk in chunks]
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"enum": [*names, "error"]}, "data": {"type": "string"} | body},
    }


def _error(kind: type[errors.ApiError], route: Route) -> dict[str, Any]:
    headers = _HEADERS | _ERROR_HEADERS.get(kind, {})
    return {
        "description": ERRORS[kind],
        "headers": {name: _header(*about) for name, about in headers.items()},
        "content": {"application/json": {"schema": _any_of(structs_of(route, "error"))}},
    }


def _response_name(kind: type[errors.ApiError], route: Route) -> str:
    """The name of an error's description, which has the envelope of ``route``."""
    envelopes = [envelope.__name__ for envelope in structs_of(route, "error")]
    is_usual = envelopes == [ErrorEnvelope.__name__]
    return "".join([kind.__name__, *([] if is_usual else envelopes)])


def _any_of(structs: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schema of one of ``structs``; of any object if there are none."""
    references = [{"$ref": SCHEMAS + struct.__name__} for struct in structs]
    if len(references) == 1:
        return references[0]
    return {"anyOf": references} if references else {"type": "object"}


def _header(
    description: str, schema: dict[str, Any], *, required: bool = True
) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema}
