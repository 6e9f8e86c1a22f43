"""The request body of ``/v1/completions``."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.fields import (
    FALSE,
    MAX_CHOICES,
    NULL,
    TextOrTokens,
    either,
)
from mlxnode.server.formats.generation import GenerationBody


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: TextOrTokens
    max_tokens: Annotated[int, Field(ge=0)] | None = None  # 0: score the prompt alone
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None
    suffix: str | None = None  # what follows the gap that is to be filled

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

    @field_validator("suffix")
    @classmethod
    def _an_echo_ends_where_the_answer_begins(cls, value: str | None, info: Any) -> str | None:
        if value and info.data.get("echo"):
            raise PydanticCustomError("invalid_parameter_combination", "echo is true")
        return value

    @property
    def echoes(self) -> bool:
        return bool(self.echo)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs
