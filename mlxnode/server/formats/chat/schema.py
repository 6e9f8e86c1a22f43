"""The request body of ``/v1/chat/completions``."""

import json
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import ANY
from mlxnode.server.formats.chat.messages import Message
from mlxnode.server.formats.chat.reasoning import ReasoningFields
from mlxnode.server.formats.chat.tools import (
    MAX_TOOLS,
    Function,
    FunctionChoice,
    Tool,
    ToolChoice,
    names_in,
)
from mlxnode.server.formats.fields import MAX_MESSAGES, Note, TokenLimit
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.rules import Rule, needs, none_of, one_of

Choice = TypeVar("Choice", bound=ToolChoice | FunctionChoice | None)

_TIERS = ("auto", "default")  # that the server has


class ChatBody(ReasoningFields, GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: TokenLimit = None
    # A number is that of the alternatives, as in text completions.
    logprobs: bool | Annotated[int, Field(ge=1, le=20)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(max_length=MAX_TOOLS)] | None = None
    function_call: FunctionChoice | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    service_tier: Note = None

    rules: ClassVar[tuple[Rule, ...]] = (
        needs(
            "tool_choice",
            none_of("tools", [], None),
            "tools is not set",
            neutral=("none", "auto"),
            in_schema=False,
        ),
        needs(
            "functions",
            one_of("tools", [], None),
            "tools is set",
            neutral=([],),
            in_schema=False,
        ),
        needs(
            "function_call",
            none_of("functions", [], None),
            "functions is not set",
            neutral=("none", "auto"),
            in_schema=False,
        ),
        needs(
            "add_generation_prompt",
            one_of("continue_final_message", False, None),
            "continue_final_message is true",
            neutral=(False,),
            in_schema=False,
        ),
    )
    neutral: ClassVar = {
        "audio": (),
        "best_of": (1,),
        "echo": (False,),
        "modalities": (["text"],),
        "moderation": (),
        "suffix": ("",),
        "web_search_options": (),
    }
    harmless: ClassVar = {
        **GenerationBody.harmless,
        "metadata": (ANY,),
        "prediction": (),
        "prompt_cache_key": (ANY,),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in-memory", "in_memory"),
        "safety_identifier": (ANY,),
        "store": (False,),
        "verbosity": ("medium",),
    }
    spellings: ClassVar = {**GenerationBody.spellings, **ReasoningFields.spellings}

    @field_validator("tool_choice")
    @classmethod
    def _choose_an_offered_tool(cls, value: Choice, info: ValidationInfo) -> Choice:
        tools: list[Tool] = info.data.get("tools") or []
        return _checked(value, [tool.function.name for tool in tools])

    @field_validator("function_call")
    @classmethod
    def _choose_an_offered_function(cls, value: Choice, info: ValidationInfo) -> Choice:
        functions: list[Function] = info.data.get("functions") or []
        return _checked(value, [function.name for function in functions])

    @property
    def requested_tokens(self) -> int | None:
        """The smaller of the limits."""
        limits = (self.max_completion_tokens, self.max_tokens)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def num_logprobs(self) -> int | None:
        """``top_logprobs`` alone asks for log-probabilities, too."""
        if self.logprobs is None or self.logprobs is True:
            return (self.top_logprobs or 0) if self.logprobs else self.top_logprobs or None
        if self.logprobs is False:
            return None
        return self.logprobs if self.top_logprobs is None else self.top_logprobs

    @property
    def has_functions(self) -> bool:
        """True if calls are written as they were before there were tools."""
        return bool(self.functions)

    @property
    def idle(self) -> list[str]:
        found = ["top_logprobs"] if self.logprobs is False and self.top_logprobs else []
        if self.service_tier is not None and self.service_tier not in _TIERS:
            found.append("service_tier")
        return found


def _checked(choice: Choice, offered: list[str]) -> Choice:
    """``choice``, which may name only functions that are offered, if any are."""
    others = [name for name in names_in(choice) or () if name not in offered]
    if offered and others:
        raise PydanticCustomError(
            "unsupported_value", "no tool has the name {name}", {"name": json.dumps(others[0])}
        )
    return choice
