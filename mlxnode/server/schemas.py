"""The request bodies, as pydantic models, and the parameters that only may be neutral.

JSON null means unset for every optional field. What is not declared here is either in
``neutral`` (documented by OpenAI, accepted at the value that changes nothing, refused
otherwise) or unknown (tolerated, named in a response header).
"""

import contextlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

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
TextOrTokens = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], Inputs, Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[list[TokenIds], Inputs, Tag("token lists")],
    Discriminator(_text_or_tokens),
]
EmbeddingInput = Annotated[
    Annotated[NonEmpty, Tag("text")]
    | Annotated[list[NonEmpty], Inputs, Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[list[TokenIds], Inputs, Tag("token lists")],
    Discriminator(_text_or_tokens),
]


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


_NULL = {"type": "null"}
_FALSE = {"enum": [False, None]}
_SCHEMA_TYPE = {"const": "json_schema"}
_NO_NUMBER = {"enum": [0, None]}
# An answer of a given form says itself where it ends.
ENDINGS = ("ignore_eos", "min_tokens", "stop_token_ids")


def either(*schemas: dict[str, Any]) -> dict[str, Any]:
    """One of a body's ``rules``: at least one of ``schemas`` holds."""
    return {"anyOf": list(schemas)}


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, Field(json_schema_extra=_FALSE)] = None

    @field_validator("include_obfuscation")
    @classmethod
    def _refuse_obfuscation(cls, value: bool | None) -> bool | None:
        if value:
            raise PydanticCustomError("unsupported_value", "only false is supported")
        return value


class GenerationBody(Body):
    """What chat and text completions have in common."""

    model: NonEmpty
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = None  # -1 and 0: off
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    logit_bias: LogitBias | None = None
    min_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: (
        Annotated[list[Annotated[int, Field(ge=0, le=INT32_MAX)]], Field(max_length=64)] | None
    ) = None
    stop: NonEmpty | Annotated[list[NonEmpty], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # the caller's own note; it changes nothing
    guided_json: dict[str, Any] | None = None
    guided_regex: NonEmpty | None = None
    guided_choice: Annotated[list[NonEmpty], Field(min_length=1, max_length=1000)] | None = None
    guided_grammar: NonEmpty | None = None

    rules: ClassVar = (
        either(
            {"properties": {"stream_options": _NULL}},
            {"properties": {"stream": {"const": True}}, "required": ["stream"]},
        ),
    )

    @field_validator("stream_options")
    @classmethod
    def _options_need_a_stream(cls, value: Any, info: Any) -> Any:
        if value is not None and not info.data.get("stream"):
            raise PydanticCustomError("invalid_parameter_combination", "stream is not true")
        return value

    @property
    def echoes(self) -> bool:
        """Whether the answer begins with the prompt."""
        return False

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def num_logprobs(self) -> int | None:
        """How many most likely tokens each token is answered with; None for no logprobs."""
        raise NotImplementedError

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ContentPart(Body):
    type: Literal["text"]
    text: str

    neutral: ClassVar = {"prompt_cache_breakpoint": ()}


class FunctionCall(Body):
    name: str
    arguments: str


class ToolCall(Body):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | list[ContentPart] | None, Field(validate_default=True)] = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    neutral: ClassVar = {
        "annotations": ([],),
        "audio": (),
        "function_call": (),
        "refusal": (),
    }
    rules: ClassVar = (
        either(
            {"properties": {"role": {"const": "assistant"}}},
            {"properties": {"content": {"not": _NULL}}, "required": ["content"]},
        ),
    )

    @field_validator("content")
    @classmethod
    def _only_the_assistant_may_say_nothing(cls, value: Any, info: Any) -> Any:
        if value is None and info.data.get("role", "assistant") != "assistant":
            raise PydanticCustomError("missing", "Field required")
        return value

    def to_template(self) -> dict[str, Any]:
        """The message as chat templates expect it.

        Content is one string, and the arguments of a tool call are an object where they
        are one: templates are written for transformers, not for OpenAI's JSON in a string.
        """
        fields = self.model_dump(exclude_none=True)
        fields["content"] = self.content or ""
        if isinstance(self.content, list):
            fields["content"] = "".join(part.text for part in self.content)
        for call in fields.get("tool_calls", ()):
            with contextlib.suppress(ValueError, RecursionError):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        return fields


class JsonSchema(Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None  # for the reader of the request; it changes nothing
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchema | None, Field(validate_default=True)] = None

    rules: ClassVar = (
        either(
            {"properties": {"type": {"not": _SCHEMA_TYPE}, "json_schema": _NULL}},
            {
                "properties": {"type": _SCHEMA_TYPE, "json_schema": {"not": _NULL}},
                "required": ["json_schema"],
            },
        ),
    )

    @field_validator("json_schema")
    @classmethod
    def _goes_with_the_type(cls, value: Any, info: Any) -> Any:
        is_schema = info.data.get("type") == "json_schema"
        if value is None and is_schema:
            raise PydanticCustomError("missing", "Field required")
        if value is not None and not is_schema:
            raise PydanticCustomError(
                "invalid_parameter_combination", "type is not json_schema"
            )
        return value


class ChatBody(GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None

    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    rules: ClassVar = (
        *GenerationBody.rules,
        either(
            {"properties": {"max_tokens": _NULL}},
            {"properties": {"max_completion_tokens": _NULL}},
        ),
        either(
            {"properties": {"top_logprobs": _NO_NUMBER}},
            {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]},
        ),
    )
    neutral: ClassVar = {
        "audio": (),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "metadata": (ANY,),
        "modalities": (["text"],),
        "moderation": (),
        "parallel_tool_calls": (True, False),
        "prediction": (),
        "prompt_cache_key": (ANY,),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in-memory", "in_memory"),
        "reasoning_effort": (),
        "safety_identifier": (ANY,),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    @field_validator("top_logprobs")
    @classmethod
    def _top_logprobs_need_logprobs(cls, value: int | None, info: Any) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError("invalid_parameter_combination", "logprobs is not true")
        return value

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: TextOrTokens
    max_tokens: Annotated[int, Field(ge=0)] | None = None  # 0: score the prompt alone
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None

    neutral: ClassVar = {"suffix": ("",)}
    rules: ClassVar = (
        *GenerationBody.rules,
        either(
            {"properties": {"best_of": {"enum": [1, None]}}}, {"properties": {"stream": _FALSE}}
        ),
        either(
            {"properties": {"best_of": _NULL}},
            {"properties": {"n": {"enum": [1, None]}}},
            *(
                {
                    "properties": {"n": {"const": n}, "best_of": {"minimum": n}},
                    "required": ["n"],
                }
                for n in range(2, MAX_CHOICES + 1)
            ),
        ),
    )

    @field_validator("best_of")
    @classmethod
    def _best_of_has_candidates(cls, value: int | None, info: Any) -> int | None:
        if value is not None and value < (info.data.get("n") or 1):
            raise PydanticCustomError("integer_below_min_value", "must be at least n")
        if value is not None and value > 1 and info.data.get("stream"):
            raise PydanticCustomError(
                "invalid_parameter_combination", "the best answers cannot be streamed"
            )
        return value

    @property
    def echoes(self) -> bool:
        return bool(self.echo)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs


class EmbeddingBody(Body):
    """``POST /v1/embeddings``."""

    model: NonEmpty
    input: EmbeddingInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
