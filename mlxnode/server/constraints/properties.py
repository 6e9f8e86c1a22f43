"""The parameters of a function, one by one, for calls that write each argument apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlxnode.server.constraints.document import refusal
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.tool_use import Function

Schema = Mapping[str, Any]

TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
# What says nothing of the arguments beyond their names and schemas.
_PLAIN = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "$defs", "definitions"),
        *("title", "description", "$schema", "$id", "$comment", "examples", "default"),
    }
)
_MAX_LINKS = 20  # of references that lead to references
_MAX_ALTERNATIVES, _MAX_DEPTH = 500, 10  # of one parameter


@dataclass(frozen=True)
class Parameters:
    """The parameters of one function.

    ``is_open``: arguments with other names are allowed. ``definitions`` are the parts of the
    schema that references lead to.
    """

    properties: Mapping[str, Schema]
    required: Sequence[str]
    is_open: bool
    definitions: Mapping[str, Any]
    function: Function

    @classmethod
    def of(cls, function: Function, schema: Schema) -> "Parameters":
        """Read ``schema``, the prepared schema of ``function``.

        Raises:
            InvalidRequest: the function is strict, and its calls cannot follow the schema.
        """
        names = ("$defs", "definitions")
        definitions = {name: schema[name] for name in names if name in schema}
        return cls({}, [], False, definitions, function).within(schema)

    def within(self, schema: Schema) -> "Parameters":
        """The members of an object under ``schema``, which is a part of this one's."""
        schema = self.resolve(schema)
        for keyword in sorted(schema.keys() - _PLAIN):
            self.refuse(keyword)
        properties = _mapping(schema.get("properties"))
        required = schema.get("required")
        extra = schema.get("additionalProperties")
        return replace(
            self,
            properties=properties,
            required=required if isinstance(required, list) else [],
            is_open=not properties if extra is None else extra is not False,
        )

    @property
    def required_numbers(self) -> list[int]:
        """The numbers of the properties that must come."""
        return [i for i, name in enumerate(self.properties) if name in self.required]

    def refuse(self, keyword: str, name: str | None = None) -> None:
        """Raises InvalidRequest if the function is strict: ``keyword`` cannot be enforced."""
        if self.function.is_strict:
            raise self.refusal(keyword, name)

    def refusal(self, keyword: str, name: str | None = None) -> InvalidRequest:
        """The error for a ``keyword`` of the parameter ``name`` that cannot be enforced."""
        place = "" if name is None else f" of the parameter '{name}'"
        return refusal(
            self.function.param,
            f"'{keyword}'{place} cannot be enforced in the calls of this model; remove it from "
            f"'{self.function.name}', or do not set strict",
        )

    def resolve(self, schema: Any) -> Schema:
        """``schema``, or the one that it refers to; {} where that is not among the parts."""
        for _ in range(_MAX_LINKS):
            if schema is True:
                return {}
            if not isinstance(schema, Mapping):
                break
            if not isinstance(link := schema.get("$ref"), str):
                return schema
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            target: Any = self.definitions
            for step in link.removeprefix("#/").split("/"):
                step = step.replace("~1", "/").replace("~0", "~")
                target = target.get(step) if isinstance(target, Mapping) else None
            if not isinstance(target, Mapping):
                break
            schema = {**target, **beside}
        return {}


@dataclass(frozen=True)
class Value:
    """The values of one parameter: some texts, or any of these lengths, and other values.

    ``others`` is the schema of the values that are no strings; None if there are none.
    """

    texts: Sequence[str] | None  # None: any text
    min_length: int = 0
    max_length: int | None = None
    others: Schema | None = None

    @property
    def has_texts(self) -> bool:
        return self.texts is None or bool(self.texts)


ANY_VALUE = Value(None, others={})


def value_of(parameters: Parameters, name: str, schema: Any) -> Value:
    """What the parameter ``name`` of this ``schema`` can be.

    Raises:
        InvalidRequest: the function is strict, and strings cannot follow the schema.
    """
    return _Reader(parameters, name).read(schema)


class _Reader:
    """Reads one parameter. Alternatives may lead back to themselves: they are bounded."""

    def __init__(self, parameters: Parameters, name: str):
        self._parameters = parameters
        self._name = name
        self._num_read = 0

    def read(self, schema: Any, depth: int = 0) -> Value:
        self._num_read += 1
        if self._num_read > _MAX_ALTERNATIVES or depth > _MAX_DEPTH:
            self._refuse("anyOf")
            return ANY_VALUE
        schema = self._parameters.resolve(schema)
        if isinstance(choices := schema.get("enum"), list) or "const" in schema:
            return _choice(choices if isinstance(choices, list) else [schema["const"]])
        for keyword in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(keyword), list) and branches:
                return _union([self.read(branch, depth + 1) for branch in branches])
        types = types_of(schema)
        if "string" not in types:
            return Value((), others=schema)
        for keyword in ("format", "pattern", "allOf", "not", "if", "contentEncoding"):
            if keyword in schema:
                self._refuse(keyword)
        others = sorted(types - {"string"})
        rest = {**schema, "type": others} if others else None
        low, high = _length(schema.get("minLength")), _length(schema.get("maxLength"))
        return Value(None, low or 0, high, rest)

    def _refuse(self, keyword: str) -> None:
        self._parameters.refuse(keyword, self._name)


def types_of(schema: Schema) -> set[str]:
    """The types of the values under ``schema``, as far as it says so directly."""
    types = schema.get("type")
    if isinstance(types, str):
        return {types}
    if isinstance(types, list):
        return {one for one in types if isinstance(one, str)}
    return set(TYPES)


def _choice(values: list[Any]) -> Value:
    others = [value for value in values if not isinstance(value, str)]
    texts = [value for value in values if isinstance(value, str)]
    return Value(texts, others={"enum": others} if others else None)


def _union(values: list[Value]) -> Value:
    free = [value for value in values if value.texts is None]
    schemas = [value.others for value in values if value.others is not None]
    others = {"anyOf": schemas} if schemas else None
    if not free:
        return Value([text for value in values for text in value.texts or ()], others=others)
    highs = [value.max_length for value in free if value.max_length is not None]
    high = max(highs) if len(highs) == len(free) else None
    return Value(None, min(value.min_length for value in free), high, others)


def _length(value: Any) -> int | None:
    is_length = isinstance(value, int) and not isinstance(value, bool)
    return value if is_length and 0 <= value <= 10_000 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
