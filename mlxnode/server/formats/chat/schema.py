"""The request body of ``/v1/chat/completions``: messages, tools and answer format."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.chat.messages import Message
from mlxnode.server.formats.chat.reasoning import ReasoningFields
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.rules import Rule, needs, none_of, not_both, one_of, required

MAX_TOOLS = 128

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]


class Function(Body):
    """A function that the model may call; ``parameters`` is the schema of its arguments."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class FunctionName(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Body):
    name: Name
    description: str | None = None  # a note of the client; it changes nothing
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        required("json_schema", unless=none_of("type", "json_schema")),
        needs("json_schema", one_of("type", "json_schema"), "type is not json_schema"),
    )


class ChatBody(ReasoningFields, GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    metadata: Metadata | None = None  # notes of the client; the server does not store them
    service_tier: Literal["auto", "default"] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        *GenerationBody.rules,
        not_both("max_completion_tokens", "max_tokens"),
        needs("top_logprobs", one_of("logprobs", True), "logprobs is not true", neutral=(0,)),
        needs(
            "tool_choice",
            none_of("tools", [], None),
            "tools is not set",
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
        "function_call": ("none", "auto"),
        "functions": ([],),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "prompt_cache_key": (ANY,),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in-memory", "in_memory"),
        "safety_identifier": (ANY,),
        "store": (False,),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    @field_validator("tool_choice")
    @classmethod
    def _choose_an_offered_tool(
        cls, value: str | NamedTool | None, info: ValidationInfo
    ) -> str | NamedTool | None:
        tools: list[Tool] = info.data.get("tools") or []
        names = [tool.function.name for tool in tools]
        if tools and isinstance(value, NamedTool) and value.function.name not in names:
            raise PydanticCustomError(
                "unsupported_value",
                "no tool has the name {name}",
                {"name": json.dumps(value.function.name)},
            )
        return value

    @property
    def requested_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
