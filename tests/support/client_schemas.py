"""Schemas in the styles of the libraries and tool servers that clients use.

Each has a value that is valid, with its keys in the order of the schema.
"""

from typing import Any

Schema = dict[str, Any]

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]"
    r"@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
)
CUID = r"^[cC][^\s-]{8,}$"
BASE64 = r"^$|^(?:[0-9a-zA-Z+/]{4})*(?:(?:[0-9a-zA-Z+/]{2}==)|(?:[0-9a-zA-Z+/]{3}=))?$"
DATE_TIME = (
    r"^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29|"
    r"\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])))T(?:(?:[01]\d|2[0-3]):[0-5]\d"
    r"(?::[0-5]\d(?:\.\d+)?)?(?:Z))$"
)


def _object(properties: Schema, *required: str, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), **more}


_TEXT: Schema = {"type": "string"}
_ADDRESS = _object({"street": _TEXT, "zip": _TEXT}, "street", title="Address")

CLIENT_SCHEMAS: dict[str, tuple[Schema, Any]] = {
    "zod 3 object": (
        _object({"city": _TEXT}, "city", additionalProperties=False) | {"$schema": DRAFT_7},
        {"city": "Rome"},
    ),
    "zod 3 by name": (
        {
            "$ref": "#/definitions/W",
            "definitions": {
                "W": _object({"n": {"type": "integer", "exclusiveMinimum": 0}}, "n")
            },
            "$schema": DRAFT_7,
        },
        {"n": 3},
    ),
    "zod 3 never": (_object({"a": {"not": {}}, "b": _TEXT}, "b"), {"b": "x"}),
    "zod 3 tuple": (
        {"type": "array", "minItems": 2, "maxItems": 2, "items": [_TEXT, {"type": "number"}]},
        ["a", 1.5],
    ),
    "zod 3 intersection": (
        {
            "allOf": [_object({"a": _TEXT}, "a"), _object({"b": _TEXT}, "b")],
            "unevaluatedProperties": False,
        },
        {"a": "x", "b": "y"},
    ),
    "zod 3 repeated part": (
        _object({"home": _ADDRESS, "work": {"$ref": "#/properties/home"}}, "home", "work"),
        {"home": {"street": "a", "zip": "b"}, "work": {"street": "a"}},
    ),
    "zod 4 email": (
        _object({"email": {"type": "string", "format": "email", "pattern": EMAIL}}, "email"),
        {"email": "a@b.de"},
    ),
    "zod 4 cuid": (
        _object({"id": {"type": "string", "pattern": CUID}}, "id"),
        {"id": "cabcdefghi"},
    ),
    "zod 4 base64": (
        {"type": "string", "format": "base64", "contentEncoding": "base64", "pattern": BASE64},
        "YWJj",
    ),
    "zod 4 datetime": (
        {"type": "string", "format": "date-time", "pattern": DATE_TIME},
        "2024-01-05T10:00:00Z",
    ),
    "zod 4 record": (
        {"type": "object", "propertyNames": _TEXT, "additionalProperties": {"type": "number"}},
        {"x": 1, "y": 2.5},
    ),
    "zod 4 record of an enum": (
        {
            "type": "object",
            "propertyNames": {"type": "string", "enum": ["a", "b"]},
            "additionalProperties": {"type": "number"},
            "required": ["a", "b"],
        },
        {"a": 1, "b": 2},
    ),
    "zod 4 integer": (
        {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
        12,
    ),
    "zod 4 recursive": (
        {
            "$schema": DRAFT_2020,
            "$ref": "#/$defs/N",
            "$defs": {
                "N": _object(
                    {
                        "name": _TEXT,
                        "children": {"type": "array", "items": {"$ref": "#/$defs/N"}},
                    },
                    "name",
                )
            },
        },
        {"name": "a", "children": [{"name": "b"}]},
    ),
    "zod 4 recursive root": (
        _object({"v": _TEXT, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "v"),
        {"v": "a", "next": {"v": "b", "next": None}},
    ),
    "zod 4 discriminated union": (
        {
            "oneOf": [
                _object({"type": {"type": "string", "const": "a"}, "x": _TEXT}, "type", "x"),
                _object({"type": {"type": "string", "const": "b"}, "y": _TEXT}, "type", "y"),
            ]
        },
        {"type": "b", "y": "z"},
    ),
    "pydantic 2 optional": (
        _object(
            {
                "name": {"title": "Name", "type": "string"},
                "age": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            },
            "name",
            title="Person",
        ),
        {"name": "a", "age": None},
    ),
    "pydantic 2 nested": (
        _object(
            {"home": {"$ref": "#/$defs/Address"}, "tags": {"type": "array", "items": _TEXT}},
            "home",
            **{"$defs": {"Address": _ADDRESS}},
        ),
        {"home": {"street": "a"}, "tags": ["x"]},
    ),
    "pydantic 2 reference beside a default": (
        _object(
            {"home": {"$ref": "#/$defs/Address", "default": {"street": "a"}}},
            **{"$defs": {"Address": _ADDRESS}},
        ),
        {"home": {"street": "a", "zip": "b"}},
    ),
    "pydantic 2 discriminator": (
        _object(
            {
                "pet": {
                    "discriminator": {"mapping": {"c": "#/$defs/C"}, "propertyName": "kind"},
                    "oneOf": [{"$ref": "#/$defs/C"}, {"$ref": "#/$defs/D"}],
                }
            },
            "pet",
            **{
                "$defs": {
                    "C": _object(
                        {"kind": {"const": "c", "type": "string"}, "mice": _TEXT}, "kind"
                    ),
                    "D": _object(
                        {"kind": {"const": "d", "type": "string"}, "bone": _TEXT}, "kind"
                    ),
                }
            },
        ),
        {"pet": {"kind": "d", "bone": "x"}},
    ),
    "pydantic 2 decimal": (
        _object(
            {
                "price": {
                    "anyOf": [
                        {"type": "number"},
                        {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
                    ]
                }
            },
            "price",
        ),
        {"price": "12.5"},
    ),
    "pydantic 2 set": (
        _object({"tags": {"type": "array", "items": _TEXT, "uniqueItems": True}}, "tags"),
        {"tags": ["a", "b"]},
    ),
    "pydantic 2 url": (
        _object(
            {"u": {"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083}}, "u"
        ),
        {"u": "https://a.de/b"},
    ),
    "pydantic 2 dictionary": (
        _object({"m": {"type": "object", "additionalProperties": {"type": "integer"}}}, "m"),
        {"m": {"k": 1}},
    ),
    "pydantic 2 dictionary by pattern": (
        _object({"m": {"type": "object", "patternProperties": {"^[a-z]+$": _TEXT}}}, "m"),
        {"m": {"k": "v"}},
    ),
    "pydantic 2 other formats": (
        _object(
            {
                "path": {"type": "string", "format": "path"},
                "secret": {"type": "string", "format": "password", "writeOnly": True},
                "span": {"type": "string", "format": "duration"},
                "data": {"type": "string", "format": "binary"},
            },
            "path",
        ),
        {"path": "/a", "secret": "b", "span": "P1D", "data": "c"},
    ),
    "pydantic 2 empty model": ({"properties": {}, "title": "E", "type": "object"}, {}),
    "pydantic 1 nested": (
        _object(
            {"home": {"title": "Home", "allOf": [{"$ref": "#/definitions/Address"}]}},
            "home",
            definitions={"Address": _ADDRESS},
        ),
        {"home": {"street": "a", "zip": "b"}},
    ),
    "pydantic 1 constrained": (
        _object(
            {
                "n": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
                "s": {"type": "string", "regex": "^a", "pattern": "^a"},
                "e": {"enum": [1, "a"], "description": "An enumeration."},
            },
            "n",
        ),
        {"n": 3, "s": "ab", "e": "a"},
    ),
    "instructor partial": (
        _object(
            {"items": {"type": "array", "items": {"$ref": "#/$defs/I"}, "title": "Items"}},
            "items",
            **{"$defs": {"I": _object({"q": _TEXT, "n": {"type": "integer"}}, "q", "n")}},
        ),
        {"items": [{"q": "a", "n": 1}]},
    ),
    "LangChain any": (
        _object({"input": {}, "config": {"default": None}}, "input"),
        {"input": [1]},
    ),
    "MCP filesystem": (
        _object(
            {
                "path": _TEXT,
                "edits": {
                    "type": "array",
                    "items": _object(
                        {"oldText": _TEXT, "newText": _TEXT},
                        "oldText",
                        "newText",
                        additionalProperties=False,
                    ),
                },
                "dryRun": {"type": "boolean", "default": False},
            },
            "path",
            "edits",
            additionalProperties=False,
        )
        | {"$schema": DRAFT_7},
        {"path": "a", "edits": [{"oldText": "a", "newText": "b"}], "dryRun": True},
    ),
    "MCP GitHub": (
        _object(
            {
                "owner": _TEXT,
                "state": {"type": "string", "enum": ["open", "closed"]},
                "page": {"type": "number", "minimum": 1},
                "files": {
                    "type": "array",
                    "items": _object({"path": _TEXT, "content": _TEXT}, "path"),
                },
            },
            "owner",
        ),
        {"owner": "a", "state": "open", "page": 2, "files": [{"path": "p"}]},
    ),
    "MCP Playwright": (
        _object(
            {
                "element": _TEXT,
                "ref": _TEXT,
                "modifiers": {
                    "type": "array",
                    "items": {"enum": ["Alt", "Shift"], "type": "string"},
                },
            },
            "element",
            "ref",
            additionalProperties=False,
        )
        | {"$schema": DRAFT_2020},
        {"element": "a", "ref": "e1", "modifiers": ["Alt"]},
    ),
    "MCP without parameters": ({"type": "object", "properties": {}}, {}),
    "MCP one of two": (
        _object(
            {"id": _TEXT, "name": _TEXT}, oneOf=[{"required": ["id"]}, {"required": ["name"]}]
        ),
        {"name": "a"},
    ),
    "MCP condition": (
        _object(
            {"mode": {"enum": ["a", "b"]}, "x": _TEXT},
            "mode",
            **{"if": {"properties": {"mode": {"const": "a"}}}, "then": {"required": ["x"]}},
        ),
        {"mode": "b"},
    ),
    "OpenAPI nullable": (
        _object({"n": {"type": "integer", "format": "int64", "nullable": True}}, "n", xml={}),
        {"n": 5},
    ),
    "dependencies of draft 7": (
        _object({"a": _TEXT, "b": _TEXT}, dependencies={"a": ["b"]}),
        {"a": "x", "b": "y"},
    ),
    "anchors": (
        _object({"a": {"$ref": "#text"}}, "a", **{"$defs": {"t": {"$anchor": "text", **_TEXT}}})
        | {"$id": "https://example.com/a.json"},
        {"a": "x"},
    ),
    "null keywords": (
        _object(
            {"a": {"type": "string", "enum": None, "pattern": None, "minLength": None}}, "a"
        ),
        {"a": "x"},
    ),
}
