"""The request bodies of ``/v1/messages`` and ``/v1/messages/count_tokens``."""

import json
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.fields import INT32_MAX, MAX_MESSAGES, NonEmpty
from mlxnode.server.formats.messages.blocks import Message, TextPart, Tool
from mlxnode.server.formats.messages.tools import offered
from mlxnode.server.formats.rules import Rule, none_of, required

MAX_TOOLS = 1024
MAX_STOPS = 64

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    rules: ClassVar[tuple[Rule, ...]] = (required("name", unless=none_of("type", "tool")),)


class Thinking(Body):
    """How much to think, and whether the thoughts are shown; all but "omitted" shows them."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    display: str | None = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    effort: Effort | None = None
    format: OutputFormat | None = None

    harmless: ClassVar = {"task_budget": ()}


class PromptBody(Body):
    """``POST /v1/messages/count_tokens``: all that makes the prompt."""

    model: NonEmpty
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextPart] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None

    harmless: ClassVar = {
        "betas": (),
        "cache_control": (ANY,),  # the end of the prompt is a border in any case
        "container": (),
        "context_management": (),
        "diagnostics": (),
        "inference_geo": (),
        "mcp_servers": ([],),
        "metadata": (ANY,),
        "service_tier": ("auto", "standard_only"),
        "speed": ("standard",),
        "user_profile_id": (ANY,),
    }

    @field_validator("tool_choice")
    @classmethod
    def _choose_an_offered_tool(
        cls, value: ToolChoice | None, info: ValidationInfo
    ) -> ToolChoice | None:
        if value is None or value.type in ("auto", "none"):
            return value
        tools: list[Tool] = info.data.get("tools") or []
        functions = offered(tools, info.data.get("messages") or [])
        if value.type == "any" and not functions:
            raise _unsupported("there is no tool of the client to be called", "")
        if value.type == "tool" and value.name not in functions:
            is_other = any(tool.name == value.name for tool in tools)
            raise _unsupported(
                "a tool that Anthropic's servers run cannot be chosen: {name}"
                if is_other
                else "no tool has the name {name}",
                json.dumps(value.name),
            )
        return value


class MessagesBody(PromptBody):
    """``POST /v1/messages``."""

    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = None  # -1 and 0: off
    stop_sequences: Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None


def _unsupported(problem: LiteralString, name: str) -> PydanticCustomError:
    return PydanticCustomError("unsupported_value", problem, {"name": name})
