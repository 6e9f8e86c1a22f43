"""Values of another JSON type than their field has, where they can mean only one thing.

PHP writes an empty object as ``[]`` and Lua an empty list as ``{}``; forms and templates write
numbers and booleans as text; Lua and Java's Gson write 2 as 2.0. The types of all bodies are
strict: what fails is mended once it has failed, so a body without such values costs nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

INTEGER = "^(0|-?[1-9][0-9]{0,18})$"
NUMBER = r"^-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?$"
BOOLEAN = "^([Tt]rue|[Ff]alse)$"

Path = list[int | str]
NOTHING = object()


def _integer(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else NOTHING
    is_text = isinstance(value, str) and re.fullmatch(INTEGER, value)
    return int(value) if is_text else NOTHING


def _number(value: Any) -> Any:
    is_text = isinstance(value, str) and re.fullmatch(NUMBER, value)
    return float(value) if is_text else NOTHING


def _boolean(value: Any) -> Any:
    is_text = isinstance(value, str) and re.fullmatch(BOOLEAN, value)
    return value.lower() == "true" if is_text else NOTHING


def _object(value: Any) -> Any:
    return {} if value == [] else NOTHING


def _array(value: Any) -> Any:
    return [] if value == {} else NOTHING


# pydantic's types of errors, each with what reads the value as the type that was expected.
_READERS: dict[str, Callable[[Any], Any]] = {
    "int_type": _integer,
    "float_type": _number,
    "bool_type": _boolean,
    "dict_type": _object,
    "model_type": _object,
    "list_type": _array,
}


def spellings_of(value: Any) -> list[Any]:
    """All that ``mend`` reads as ``value``, but for the many spellings of a broken number."""
    if isinstance(value, bool):
        return [str(value), str(value).lower()]
    if isinstance(value, int):
        return [str(value)]
    return [{}] if value == [] else []


def mend(raw: dict[str, Any], failures: Iterable[tuple[Path, str, Any]]) -> bool:
    """Replace, within ``raw``, the values that mean a value of the type that was expected.

    ``failures`` are the paths of what failed, pydantic's types of the errors, and the values.
    Of a list, only the first invalid item is known: the others are mended in the same way.
    False: there was nothing to replace.
    """
    is_mended = False
    done: set[tuple[object, ...]] = set()
    for path, kind, value in failures:
        read = _READERS.get(kind)
        if read is None or not path or read(value) is NOTHING:
            continue
        is_mended = True
        fields = (kind, *(None if isinstance(part, int) else part for part in path))
        if fields not in done:
            done.add(fields)
            _mend_all(raw, path, read)
    return is_mended


def _mend_all(raw: Any, path: Path, read: Callable[[Any], Any]) -> None:
    """Mend the value at ``path``, and those at the same fields of other items of lists."""
    *before, last = path
    holders: list[Any] = [raw]
    for part in before:
        holders = [inner for holder in holders for inner in _at(holder, part)]
    for holder in holders:
        if not _has(holder, last):
            continue  # the field of another item may hold anything, or be absent
        for key in range(len(holder)) if isinstance(last, int) else [last]:
            if (meant := read(holder[key])) is not NOTHING:
                holder[key] = meant


def _at(holder: Any, part: int | str) -> Iterator[Any]:
    """The field ``part`` of an object; for an index, all items of an array."""
    if _has(holder, part):
        yield from holder if isinstance(part, int) else (holder[part],)


def _has(holder: Any, part: int | str) -> bool:
    if isinstance(part, int):
        return isinstance(holder, list)
    return isinstance(holder, dict) and part in cast(dict[str, Any], holder)


class LooseJsonSchema(GenerateJsonSchema):
    """The JSON schemas of bodies, with the values that ``mend`` reads."""

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return _or_text(super().int_schema(schema), INTEGER)

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return _or_text(super().float_schema(schema), NUMBER)

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return _or_text(super().bool_schema(schema), BOOLEAN)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return _or_empty(super().dict_schema(schema), "array", "maxItems")

    def list_schema(self, schema: core_schema.ListSchema) -> JsonSchemaValue:
        described = super().list_schema(schema)
        if schema.get("min_length"):
            return described
        return _or_empty(described, "object", "maxProperties")

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        try:
            schema["cls"].model_validate({})
        except ValidationError:
            return described
        return _or_empty(described, "array", "maxItems")

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """The branch is chosen by a function: a value may be valid under the others, too."""
        described = super().tagged_union_schema(schema)
        if "oneOf" in described and "discriminator" not in described:
            described["anyOf"] = described.pop("oneOf")
        return described


def _or_text(described: JsonSchemaValue, pattern: str) -> JsonSchemaValue:
    return described | {"type": [described["type"], "string"], "pattern": pattern}


def _or_empty(described: JsonSchemaValue, type: str, limit: str) -> JsonSchemaValue:
    return described | {"type": [described["type"], type], limit: 0}
