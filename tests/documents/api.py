"""docs/api.md: the endpoints, from the OpenAPI document of a running node."""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import tomli
from documents.markdown import ROOT
from documents.node import KEY, Examples
from documents.schema_words import kind_of, values_of
from sanic import Sanic

from mlxnode.server import routes
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.http.openapi import ERRORS
from mlxnode.server.routes import admin

DOCUMENT = ROOT / "docs" / "api.md"
MEANINGS: dict[str, str] = tomli.loads(
    Path(__file__).with_name("meanings.toml").read_text(encoding="utf-8")
)
# What the schema of a node says of these fields follows from its models.
_OF_MODELS = {
    "model": "text",
    "dimensions": "integer",
    "instruct": "text",
    "instruction": "text",
    "suffix": "text",
}
_ERRORS = """
## Errors

An error is `{"error": {"message", "type", "param", "code"}}`; `param` is the path of the
field. On `/v1/messages`, and with the header `anthropic-version`, it has Anthropic's envelope.
A stream that has begun ends with an event of the same content. `x-should-retry: false` says
that the same request would fail again.

"""
_METHODS = ("get", "post", "delete")
_HEAD = Path(__file__).with_name("heads") / "api.md"


def text(examples: Examples) -> str:
    """The whole document, from the node of the examples."""
    answer = httpx2.get(
        f"{examples.url}/openapi.json", headers={"authorization": f"Bearer {KEY}"}, timeout=60
    )
    found = answer.raise_for_status().json()
    parts = (_index(found), _admin(), *_endpoints(found), _errors(), _headers(found))
    return _HEAD.read_text(encoding="utf-8") + "".join(parts).replace("``", "`")


def fields_of(document: dict[str, Any]) -> set[str]:
    """All own fields of all bodies and forms: those that need a meaning."""
    operations = _operations(document).values()
    found = {
        name
        for operation in operations
        for body, schema in _bodies(document, operation)
        for name in _own(body, schema)
    }
    return found.union(*(_form_of(operation).get("properties", ()) for operation in operations))


def _operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): methods[method]
        for path, methods in document["paths"].items()
        for method in _METHODS
        if method in methods
    }


def _index(document: dict[str, Any]) -> str:
    rows = [
        f"| [`{method} {path}`](#{_anchor(method, path)}) | {operation['summary']} |\n"
        for (method, path), operation in _operations(document).items()
    ]
    return "## Endpoints\n\n| endpoint | |\n|---|---|\n" + "".join(rows)


def _admin() -> str:
    app = Sanic("documents-of-admin")
    app.blueprint(admin.blueprint)
    rows = [
        f"| `{'/'.join(sorted(route.methods - {'HEAD', 'OPTIONS'}))} /{route.path}` | "
        f"{(route.handler.__doc__ or '').splitlines()[0]} |\n"
        for route in sorted(app.router.routes, key=lambda route: route.path)
    ]
    Sanic.unregister_app(app)
    return (
        "\nWith `[api] admin_key`, that key alone loads and unloads models, and opens "
        "these:\n\n| endpoint | |\n|---|---|\n" + "".join(rows)
    )


def _anchor(method: str, path: str) -> str:
    return re.sub(r"[^\w-]", "", f"{method} {path}".lower().replace(" ", "-"))


def _endpoints(document: dict[str, Any]) -> Iterator[str]:
    shown: dict[str, str] = {}
    for (method, path), operation in _operations(document).items():
        yield f"\n## `{method} {path}`\n\n{operation['summary']}\n"
        common = document["paths"][path].get("parameters", [])
        yield _parameters([*common, *operation.get("parameters", [])])
        yield _form(operation)
        for body, schema in _bodies(document, operation):
            name = f"{method} {path}"
            if body.__name__ in shown:
                first = shown[body.__name__]
                anchor = _anchor(*first.split(" "))
                yield f"\nThe body is that of [`{first}`](#{anchor}).\n"
            else:
                shown[body.__name__] = name
                yield _body(document, body, schema)
        yield _answer(document, operation)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [
        f"| `{one['name']}` | {one['in']} | "
        f"{'an id' if one['in'] == 'path' else kind_of(one['schema'])} | "
        f"{one.get('description', '')} |\n"
        for one in parameters
    ]
    head = "\n| parameter | place | type | |\n|---|---|---|---|\n"
    return head + "".join(rows) if rows else ""


def _bodies(
    document: dict[str, Any], operation: dict[str, Any]
) -> Iterator[tuple[type[Body], dict[str, Any]]]:
    """The bodies of an operation: the classes and their schemas."""
    if "requestBody" not in operation:
        return
    content = operation["requestBody"]["content"]
    if "application/json" not in content:  # a form
        return
    schema = content["application/json"]["schema"]
    for one in schema.get("anyOf", [schema]):
        name = one["$ref"].rpartition("/")[2]
        yield _classes()[name.removeprefix("Request")], document["components"]["schemas"][name]


def _classes() -> dict[str, type[Body]]:
    """The classes of all bodies, by their names."""
    for module in pkgutil.iter_modules(routes.__path__):
        importlib.import_module(f"{routes.__name__}.{module.name}")
    return {found.__name__: found for found in _subclasses(Body)}


def _subclasses(base: type[Body]) -> Iterator[type[Body]]:
    for one in base.__subclasses__():
        yield one
        yield from _subclasses(one)


def _own(body: type[Body], schema: dict[str, Any]) -> list[str]:
    """The fields that do something, by their own names."""
    others = {*body.neutral, *body.harmless, *body.spellings}
    return [name for name in schema["properties"] if name not in others]


def _body(document: dict[str, Any], body: type[Body], schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    properties = schema["properties"]
    own = _own(body, schema)
    rows = []
    for name in sorted(own, key=lambda name: (name not in required, own.index(name))):
        words = _OF_MODELS.get(name) or kind_of(properties[name])
        default = properties[name].get("default")
        mark = "" if default is None else f", default {values_of(default)}"
        mark = ", required" if name in required else mark
        rows.append(f"| `{name}` | {words}{mark} | {MEANINGS[name]} |\n")
    head = "\n| field | type | |\n|---|---|---|\n"
    parts = [head, *rows] if rows else ["\nThe body may be left out; it has no fields.\n"]
    known = {name: own for name, own in body.spellings.items() if name in properties}
    if known:
        names = [f"`{name}` ({field})" for name, field in known.items()]
        parts.append(f"\n**Other names** of fields: {', '.join(names)}.\n")
    harmless = {
        **body.harmless,
        **{name: () for name in body.neutral if _takes_all(body, name)},
    }
    if harmless := [name for name in harmless if name in properties]:
        parts.append(f"\n**Accepted, without effect:** {_names(harmless)}.\n")
    refused = [
        name for name in body.neutral if name in properties and not _takes_all(body, name)
    ]
    if refused:
        texts = [_refused(name, body.neutral[name]) for name in refused]
        parts.append(f"\n**Refused**, as it would change the answer: {', '.join(texts)}.\n")
    rules = [rule for rule in body.rules if rule.problem != "Field required"]
    if rules:
        texts = [f"`{rule.param}` ({rule.problem})" for rule in rules]
        parts.append(f"\n**Refused** beside others: {', '.join(texts)}.\n")
    return "".join(parts)


def _form(operation: dict[str, Any]) -> str:
    """The fields of a form, which no body has."""
    schema = _form_of(operation)
    if not schema:
        return ""
    rows = [
        f"| `{name}` | {kind_of(field)}{', required' if name in schema['required'] else ''} | "
        f"{MEANINGS[name]} |\n"
        for name, field in schema["properties"].items()
    ]
    return (
        "\nThe body is a form (multipart/form-data).\n\n| field | type | |\n|---|---|---|\n"
        + "".join(rows)
    )


def _form_of(operation: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form; empty if the operation takes none."""
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("multipart/form-data", {}).get("schema", {})


def _takes_all(body: type[Body], name: str) -> bool:
    return ANY in body.neutral[name]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _refused(name: str, accepted: tuple[Any, ...]) -> str:
    if not accepted:
        return f"`{name}`"
    return f"`{name}` other than {' or '.join(map(values_of, accepted))}"


def _answer(document: dict[str, Any], operation: dict[str, Any]) -> str:
    found = operation["responses"]["200"].get("content", {})
    lines = [f"**Answer** `{kind}`." for kind in found if kind == "application/octet-stream"]
    for name in _structs(found.get("application/json")):
        fields = document["components"]["schemas"][name]["properties"]
        lines.append(f"**Answer** `{name}`: {_names(fields)}.")
    if events := _structs(found.get("text/event-stream")):
        lines.append(f"**Events** of a stream: {_names(events)}.")
    codes = ", ".join(code for code in operation["responses"] if code != "200")
    lines.append(f"**Errors**: {codes}.")
    return "\n" + "\n\n".join(lines) + "\n"


def _structs(content: dict[str, Any] | None) -> list[str]:
    """The names of the structs that a content may have."""
    return list(dict.fromkeys(re.findall(r"schemas/(\w+)", str(content or ""))))


def _errors() -> str:
    rows = [
        f"| {kind.status} | {about} |\n"
        for kind, about in sorted(ERRORS.items(), key=lambda item: item[0].status)
    ]
    return _ERRORS + "| status | |\n|---|---|\n" + "".join(rows)


def _headers(document: dict[str, Any]) -> str:
    found: dict[str, str] = {}
    for operation in _operations(document).values():
        for response in operation["responses"].values():
            if "$ref" in response:
                name = response["$ref"].rpartition("/")[2]
                response = document["components"]["responses"][name]
            for name, header in response["headers"].items():
                found.setdefault(name, header["description"])
    rows = [f"| `{name}` | {found[name]} |\n" for name in sorted(found)]
    return "\n## Headers of answers\n\n| header | |\n|---|---|\n" + "".join(rows)
