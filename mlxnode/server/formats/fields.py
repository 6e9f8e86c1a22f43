"""The types of the fields of request bodies."""

from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticKnownError

from mlxnode.server.formats.loose import INTEGER, NUMBER
from mlxnode.server.json_text import load_json

INT32_MAX = 2**31 - 1  # the engine computes with 32 bits
INT64_MAX = 2**63 - 1
MAX_INPUTS = 2048
MAX_MESSAGES = 10_000
MAX_PARTS = 10_000  # of a message
MAX_CHOICES = 8
MAX_STOPS = 64

NonEmpty = Annotated[str, Field(min_length=1)]
# Tool servers make long names with dots, slashes and colons; ``answer.tool_names`` maps them.
ToolName = Annotated[str, Field(min_length=1, max_length=256)]
Note = Any  # of the client: nothing depends on it
# Ids are numbers in every client: bodies have them in ``exact`` fields.
TokenId = Annotated[
    int,
    Field(ge=0, le=INT32_MAX),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": INT32_MAX}),
]
_AnyId = Annotated[int, Field(ge=0), WithJsonSchema({"type": "integer", "minimum": 0})]
TokenIds = Annotated[list[_AnyId], Field(min_length=1, fail_fast=True)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]


def _without_limit(value: Any) -> Any:
    return None if value == -1 else value


# The largest number of tokens of an answer; -1 is no limit (LM Studio, llama.cpp).
TokenLimit = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_without_limit),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["integer", "string"], "minimum": 1, "pattern": INTEGER},
                {"enum": [-1, None]},
            ]
        }
    ),
]


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _parsed(value: Any) -> Any:
    """An object that was sent as JSON in a string; else the value."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return load_json(value, parse_constant=_refuse)
    except ValueError:
        return value


# A JSON schema, or another object; some clients send it as JSON in a string.
JsonObject = Annotated[
    dict[str, Any],
    BeforeValidator(_parsed),
    WithJsonSchema(
        {"type": ["object", "array", "string"], "maxItems": 0, "pattern": r"^\s*\{"}
    ),
]


def at_most(count: int) -> BeforeValidator:
    """Refuses an object of more fields before it looks at any: each may be an error."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and (got := len(cast(dict[str, Any], value))) > count:
            limits = {"field_type": "Dictionary", "max_length": count, "actual_length": got}
            raise PydanticKnownError("too_long", limits)
        return value

    return BeforeValidator(check)


MAX_BIASES = 1024
_TOKEN_KEY = "^[0-9]{1,9}$"  # the keys of a JSON object are strings
LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=_TOKEN_KEY)],
        Annotated[float, Field(ge=-100.0, le=100.0)],
    ],
    Field(max_length=MAX_BIASES),
    at_most(MAX_BIASES),
    WithJsonSchema(
        {
            "type": ["object", "array"],
            "maxItems": 0,
            "patternProperties": {
                _TOKEN_KEY: {
                    "type": ["number", "string"],
                    "minimum": -100,
                    "maximum": 100,
                    "pattern": NUMBER,
                }
            },
            "additionalProperties": False,
            "maxProperties": MAX_BIASES,
        }
    ),
]


def _input_kind(value: Any) -> str:
    """The kind of an input by its first item, so that an error is about that kind alone."""
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "token lists"
    return "tokens" if isinstance(first, (int, float)) else "texts"


_Text = TypeVar("_Text", bound=str)
_Several = Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)

# One text or several texts, each as a string or as token ids.
TextOrTokens = Annotated[
    Annotated[_Text, Tag("text")]
    | Annotated[list[_Text], _Several, Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[list[TokenIds], _Several, Tag("token lists")],
    Discriminator(_input_kind),
]
