"""The schemas of the OpenAPI document: of request bodies, with their models, and of answers."""

import itertools
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from pydantic.json_schema import models_json_schema
from sanic_routing import Route

from mlxnode.config.tables import ModelType
from mlxnode.server.errors import ErrorEnvelope
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.loose import LooseJsonSchema
from mlxnode.server.http.context import WorkerContext
from mlxnode.server.registry.facts import Facts
from mlxnode.server.registry.registry import Registry

SCHEMAS = "#/components/schemas/"
REQUEST = "Request"  # prefix of the request schemas: a request and an answer have a ToolCall


def bodies_of(route: Route) -> dict[type[Body], tuple[ModelType, ...]]:
    """The schemas of which the body of a request has one, each with the types of its models."""
    if hasattr(route.ctx, "body"):
        return {route.ctx.body: route.ctx.models}
    return dict(getattr(route.ctx, "bodies", ()))


def structs_of(route: Route, name: str) -> tuple[type[msgspec.Struct], ...]:
    """The structs that ``route`` names as its answer, event or error: one, several or none."""
    default = ErrorEnvelope if name == "error" else ()
    value = getattr(route.ctx, name, default)
    if isinstance(value, tuple):
        return value
    return get_args(value) or (value,)


def request_schemas(
    routes: list[Route],
    context: WorkerContext,
    registry: Registry,
    facts: Mapping[str, Facts],
) -> dict[str, Any]:
    """The bodies by name, each with the names of the models that its endpoint serves."""
    bodies = {body: types for route in routes for body, types in bodies_of(route).items()}
    optional = {
        body
        for route in routes
        for name in ("optional_body", "plain_body")
        if (body := getattr(route.ctx, name, None))
    }
    _, found = models_json_schema(
        [(body, "validation") for body in (*bodies, *optional)],
        ref_template=f"{SCHEMAS}{REQUEST}{{model}}",
        schema_generator=LooseJsonSchema,
    )
    schemas = {f"{REQUEST}{name}": value for name, value in found["$defs"].items()}
    for body, types in bodies.items():
        models = [model for model in registry.served.values() if model.type in types]
        schema = schemas[f"{REQUEST}{body.__name__}"]
        properties = schema["properties"]
        ids = [model.id for model in models]
        names = [name for name, id in registry.aliases.items() if id in ids]
        properties["model"] = {"enum": [*ids, *names]}
        if "model" not in schema.get("required", ()):
            if registry.only_model is None:
                schema["required"] = [*schema.get("required", ()), "model"]
            else:
                properties["model"]["enum"].append(None)
        if "dimensions" in properties:
            full_sizes = {model.dimensions for model in models if model.dimensions is not None}
            sizes = full_sizes.union(*(model.matryoshka for model in models))
            texts = [str(size) for size in sorted(sizes)]  # numbers may be sent as text
            properties["dimensions"] = {"enum": [*sorted(sizes), *texts, None]}
        properties |= {other: properties[own] for other, own in body.spellings.items()}
        for name in properties.keys() - getattr(body, "documented", properties.keys()):
            del properties[name]
    _narrow(schemas, registry, facts)
    if context.config.server.strict_fields:
        for value in schemas.values():
            if "properties" in value and not value.get("additionalProperties"):
                value["additionalProperties"] = False
    return schemas


def _narrow(schemas: dict[str, Any], registry: Registry, facts: Mapping[str, Facts]) -> None:
    """Restrict the parameters that no served model supports to their neutral values."""
    known = [facts[id] for id in registry.served if id in facts]
    if not any(model.fills_in_the_middle for model in known):
        schemas[f"{REQUEST}CompletionBody"]["properties"]["suffix"] = {"enum": ["", None]}
    if not any(model.takes_instruction for model in known):
        for body, name in itertools.product(("Rerank", "Score"), ("instruction", "instruct")):
            schemas[f"{REQUEST}{body}Body"]["properties"][name] = {"enum": [None]}


def answer_schemas(routes: list[Route]) -> dict[str, Any]:
    structs = {
        struct
        for route in routes
        for name in ("answer", "event", "error")
        for struct in structs_of(route, name)
    }
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=SCHEMAS + "{name}")
    for schema in schemas.values():
        # An answer always has the fields with a default; only UNSET fields can be absent.
        present = {name for name, value in schema["properties"].items() if "default" in value}
        schema["required"] = sorted(present.union(schema.get("required", ())))
    return schemas
