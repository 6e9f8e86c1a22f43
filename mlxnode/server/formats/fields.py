"""The types of the fields of request bodies."""

from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Field, Tag, WithJsonSchema

INT32_MAX = 2**31 - 1  # the engine computes with 32 bits
INT64_MAX = 2**63 - 1
MAX_INPUTS = 2048
MAX_CHOICES = 8

NonEmpty = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, le=INT32_MAX)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]

_TOKEN_KEY = "^[0-9]{1,9}$"  # the keys of a JSON object are strings
LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=_TOKEN_KEY)],
        Annotated[float, Field(ge=-100.0, le=100.0)],
    ],
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
