"""The shapes of the values that JSON Schema's keywords have."""

from collections.abc import Callable, Mapping
from typing import Any

from mlxnode.server.constraints.document import Document

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

_Shape = tuple[str, Callable[[Any], bool]]


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _is_list_of_schemas(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def _is_map_of_schemas(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_schema, value.values()))


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_count(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and value >= 0


_SCHEMA: _Shape = "an object or a boolean", _is_schema
_SCHEMAS: _Shape = "a list of schemas, not empty", lambda v: _is_list_of_schemas(v) and bool(v)
_MAP: _Shape = "an object of schemas", _is_map_of_schemas
_NUMBER: _Shape = (
    "a number",
    lambda v: isinstance(v, int | float) and not isinstance(v, bool),
)
_BOUND: _Shape = "a number", lambda v: isinstance(v, int | float)  # a boolean in draft 4
_COUNT: _Shape = "a whole number from 0", _is_count
_TEXT: _Shape = "a string", lambda v: isinstance(v, str)
_SHAPES: dict[str, _Shape] = {
    "type": (
        "a string or a list of strings, not empty",
        lambda v: isinstance(v, str) or (_is_list_of_texts(v) and bool(v)),
    ),
    "enum": ("a list", lambda v: isinstance(v, list)),
    "items": (
        "a schema or a list of schemas",
        lambda v: _is_schema(v) or _is_list_of_schemas(v),
    ),
    "dependentRequired": (
        "an object of lists of strings",
        lambda v: isinstance(v, Mapping) and all(map(_is_list_of_texts, v.values())),
    ),
    "dependencies": (
        "an object of schemas or lists of strings",
        lambda v: (
            isinstance(v, Mapping)
            and all(_is_schema(x) or _is_list_of_texts(x) for x in v.values())
        ),
    ),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _SCHEMAS),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _MAP),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _BOUND),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _COUNT),
    **dict.fromkeys(("minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("pattern", "format", "$ref", "$dynamicRef", "$recursiveRef"), _TEXT),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames"), _SCHEMA),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties"), _SCHEMA),
    **dict.fromkeys(("additionalItems", "unevaluatedItems"), _SCHEMA),
}


def check_shapes(document: Document, node: object, fields: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for a keyword in ``fields`` of ``node`` that is malformed."""
    for keyword, value in fields.items():
        if value is not None and keyword in _SHAPES and not _SHAPES[keyword][1](value):
            document.refuse(node, f"{keyword} must be {_SHAPES[keyword][0]}")


def known_types(document: Document, node: object, kinds: str | list[str]) -> str | list[str]:
    """``kinds`` without the types that JSON Schema does not have; all types if none is left."""
    names = [kinds] if isinstance(kinds, str) else kinds
    known = [name for name in names if name in TYPES]
    if len(known) == len(names):
        return kinds
    unknown = next(name for name in names if name not in TYPES)
    document.leave_out(node, "type", f"Invalid type: {unknown[:50]}")
    return known or list(TYPES)
