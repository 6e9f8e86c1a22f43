"""What request bodies are made of: their base, the types of fields, rules between fields.

JSON null means unset for every optional field. What a body does not declare is either in its
``neutral`` (documented by OpenAI, accepted at the value that changes nothing, refused
otherwise) or unknown (tolerated, named in a response header).
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

INT32_MAX = 2**31 - 1  # what the engine computes with
INT64_MAX = 2**63 - 1
MAX_INPUTS = 2048
MAX_CHOICES = 8
ANY = object()  # in ``neutral``: a value that asks nothing of the model

NonEmpty = Annotated[str, Field(min_length=1)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


def _text_or_tokens(value: Any) -> str:
    """Which form an input has: told by its first item, so that an error is about that form."""
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "token lists"
    return "tokens" if isinstance(first, (int, float)) else "texts"


Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
Bias = Annotated[float, Field(ge=-100.0, le=100.0)]
_TOKEN_KEY = "^[0-9]{1,9}$"  # JSON has no other keys than strings
LogitBias = Annotated[
    dict[Annotated[str, Field(pattern=_TOKEN_KEY)], Bias],
    Field(max_length=1024),
    WithJsonSchema(
        {
            "type": "object",
            "patternProperties": {
                _TOKEN_KEY: {"type": "number", "minimum": -100, "maximum": 100}
            },
            "additionalProperties": False,
            "maxProperties": 1024,
        }
    ),
]

Inputs = Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)


def _inputs(text: Any) -> Any:
    """One text or several, as such or as token ids."""
    return Annotated[
        Annotated[text, Tag("text")]
        | Annotated[list[text], Inputs, Tag("texts")]
        | Annotated[TokenIds, Tag("tokens")]
        | Annotated[list[TokenIds], Inputs, Tag("token lists")],
        Discriminator(_text_or_tokens),
    ]


TextOrTokens = _inputs(str)
EmbeddingInput = _inputs(NonEmpty)


def _document(schema: dict[str, Any], body: type["Body"]) -> None:
    """Complete a JSON schema by the neutral parameters and by the rules between fields."""
    for name, values in body.neutral.items():
        schema["properties"][name] = {} if ANY in values else {"enum": [*values, None]}
    if body.rules:
        schema["allOf"] = list(body.rules)


class Body(BaseModel):
    """Base of every request: strict types, unknown fields tolerated."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, json_schema_extra=_document
    )
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    rules: ClassVar[tuple[dict[str, Any], ...]] = ()  # validators, said as JSON schemas


NULL = {"type": "null"}
FALSE = {"enum": [False, None]}
NO_NUMBER = {"enum": [0, None]}


def either(*schemas: dict[str, Any]) -> dict[str, Any]:
    """One of a body's ``rules``: at least one of ``schemas`` holds."""
    return {"anyOf": list(schemas)}
