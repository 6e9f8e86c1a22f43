"""JSON schemas of fields in words, for the tables of the documents."""

import json
from collections.abc import Iterator
from typing import Any

_LARGE = 2**31 - 1  # a bound of the machine, not of the field
_WORDS = {"string": "text", "boolean": "true or false", "object": "object", "null": "null"}


def values_of(value: Any) -> str:
    """A value as code, in a cell of a table."""
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def kind_of(schema: dict[str, Any]) -> str:
    """The type and the range of a field. Spellings that are understood as well are left out."""
    if "enum" in schema or "const" in schema:
        return _enumerated(schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        found = [kind_of(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(one for one in found if one))
    if "$ref" in schema:
        return "object"
    kinds = schema.get("type")
    if kinds is None:
        return "anything" if "minimum" not in schema else " ".join(["number", *_range(schema)])
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "array":
        items = kind_of(schema["items"]) if "items" in schema else "anything"
        return f"list of {items}"
    return " ".join([_WORDS.get(kind, kind), *_range(schema)])


def _enumerated(values: list[Any]) -> str:
    """The values but null; of those that differ in their case alone, the first one."""
    first = {
        value.lower() if isinstance(value, str) else value: value
        for value in reversed(values)
        if value is not None
    }
    return " \\| ".join(values_of(value) for value in reversed(first.values()))


def _range(schema: dict[str, Any]) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None and most >= _LARGE:
        most, least = None, None if least is not None and least < -1 else least
    if "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"]
        yield f"above {least:g}" + (f", at most {most:g}" if most is not None else "")
    elif least is not None and most is not None:
        yield f"{least:g} to {most:g}"
    elif least is not None:
        yield f"from {least:g}"
