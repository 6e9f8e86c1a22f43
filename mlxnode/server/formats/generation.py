"""The bodies of the endpoints for text and embeddings; ``chat_schemas`` has that for chat."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.fields import (
    FALSE,
    INT32_MAX,
    INT64_MAX,
    MAX_CHOICES,
    NULL,
    Body,
    LogitBias,
    NonEmpty,
    Penalty,
    either,
)

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
