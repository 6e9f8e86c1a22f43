"""``response_format``: OpenAI's, and the places where other servers put the schema.

``{"type": "json_object", "schema": …}`` is llama.cpp's and Together's, ``value`` is that of
Hugging Face's server, and ``grammar`` that of Fireworks.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticKnownError

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import JsonObject, NonEmpty, Note
from mlxnode.server.formats.rules import Rule, needs, none_of, one_of, required

ANY_OBJECT: dict[str, Any] = {"type": "object"}
_SCHEMAS = ("json_schema", "json_object", "json")
# A schema has one of these, and OpenAI's ``json_schema`` has none.
_KEYWORDS = ("$ref", "allOf", "anyOf", "enum", "oneOf", "properties", "type")


class JsonSchema(Body):
    """``name`` and ``description`` are notes of the client; they change nothing."""

    name: Note = None
    description: Note = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


def _place(value: Any) -> str:
    is_bare = isinstance(value, dict) and "schema" not in value
    return "bare" if is_bare and any(name in value for name in _KEYWORDS) else "within"


_Bare = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "anyOf": [{"required": [name]} for name in _KEYWORDS],
            "not": {"required": ["schema"]},
        }
    ),
]
# The schema with its name, or the schema alone.
PlacedSchema = Annotated[
    Annotated[JsonSchema, Tag("within")] | Annotated[_Bare, Tag("bare")],
    Discriminator(_place),
]


class ResponseFormat(Body):
    """The form of an answer. ``value``: a schema or a regex, by ``type``."""

    type: Literal["text", "json_object", "json_schema", "json", "regex", "grammar"]
    json_schema: PlacedSchema | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    value: JsonObject | NonEmpty | None = None
    grammar: NonEmpty | None = None
    strict: bool | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        required("json_schema", "schema", unless=none_of("type", "json_schema")),
        needs("json_schema", one_of("type", *_SCHEMAS), "type is not json_schema"),
        needs("schema", one_of("type", *_SCHEMAS), "type is not json_schema"),
        needs("value", one_of("type", "json", "json_object", "regex"), "type is not json"),
        required("value", unless=none_of("type", "regex")),
        required("grammar", unless=none_of("type", "grammar")),
    )

    @field_validator("value")
    @classmethod
    def _is_of_its_type(
        cls, value: dict[str, Any] | str | None, info: ValidationInfo
    ) -> dict[str, Any] | str | None:
        is_regex = info.data.get("type") == "regex"
        if value is not None and isinstance(value, str) != is_regex:
            kind = "string_type" if is_regex else "dict_type"
            raise PydanticKnownError(kind)
        return value

    @property
    def constraint(self) -> Constraint | None:
        """The form of the answer; None for any text.

        Raises:
            InvalidRequest: the schema, the regex or the grammar is too large or unreadable.
        """
        if self.type == "text":
            return None
        if isinstance(self.value, str):
            return Constraint.regex(self.value, "response_format.value")
        if self.type == "grammar":
            return Constraint.of_grammar(self.grammar or "", "response_format.grammar")
        schema, place = self._schema
        named = self.json_schema
        strict = named.strict if isinstance(named, JsonSchema) else self.strict
        return Constraint.json(schema, place, strict=bool(strict))

    @property
    def _schema(self) -> tuple[dict[str, Any], str]:
        """The schema of the answer, and its place in the body."""
        if isinstance(self.json_schema, JsonSchema):
            return self.json_schema.schema_, "response_format.json_schema.schema"
        places = {
            "response_format.json_schema": self.json_schema,
            "response_format.schema": self.schema_,
            "response_format.value": self.value,
        }
        found = ((s, place) for place, s in places.items() if isinstance(s, dict))
        return next(found, (ANY_OBJECT, "response_format"))
