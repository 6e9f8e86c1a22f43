"""The request bodies, as pydantic models, and the parameters that only may be neutral."""

import contextlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.parameters import (
    ANY,
    FALSE,
    INT32_MAX,
    INT64_MAX,
    MAX_CHOICES,
    NO_NUMBER,
    NULL,
    Body,
    EmbeddingInput,
    LogitBias,
    NonEmpty,
    Penalty,
    TextOrTokens,
    either,
)

SCHEMA_TYPE = {"const": "json_schema"}
# An answer of a given form says itself where it ends.
ENDINGS = ("ignore_eos", "min_tokens", "stop_token_ids")


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, Field(json_schema_extra=FALSE)] = None

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
            {"properties": {"stream_options": NULL}},
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
        return None

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
            {"properties": {"content": {"not": NULL}}, "required": ["content"]},
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
            {"properties": {"type": {"not": SCHEMA_TYPE}, "json_schema": NULL}},
            {
                "properties": {"type": SCHEMA_TYPE, "json_schema": {"not": NULL}},
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
            {"properties": {"max_tokens": NULL}},
            {"properties": {"max_completion_tokens": NULL}},
        ),
        either(
            {"properties": {"top_logprobs": NO_NUMBER}},
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
            {"properties": {"best_of": {"enum": [1, None]}}}, {"properties": {"stream": FALSE}}
        ),
        either(
            {"properties": {"best_of": NULL}},
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
