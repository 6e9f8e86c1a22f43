"""The body of ``/v1/chat/completions``: messages, tools and the form of the answer."""

import contextlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.fields import ANY, NO_NUMBER, NULL, Body, either
from mlxnode.server.formats.generation import GenerationBody

MAX_TOOLS = 128
SCHEMA_TYPE = {"const": "json_schema"}

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
# Variables of chat templates that a request may set; those that carry the conversation, or
# that could be of any size, are not among them.
TemplateKwargs = dict[
    Literal[
        "clear_thinking",
        "date_string",
        "enable_thinking",
        "preserve_thinking",
        "reasoning_effort",
        "thinking",
        "thinking_budget",
    ],
    bool | int | Annotated[str, StringConstraints(max_length=64)],
]


class ContentPart(Body):
    type: Literal["text"]
    text: str

    neutral: ClassVar = {"prompt_cache_breakpoint": ()}


class FunctionCall(Body):
    """Of an earlier answer; ``arguments`` is JSON, as a text."""

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
    reasoning_content: str | None = None  # of an earlier answer; some templates want it back
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Annotated[str | None, Field(validate_default=True)] = None

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
        either(
            {"properties": {"role": {"not": {"const": "tool"}}}},
            {"properties": {"tool_call_id": {"not": NULL}}, "required": ["tool_call_id"]},
        ),
    )

    @field_validator("content")
    @classmethod
    def _only_the_assistant_may_say_nothing(cls, value: Any, info: Any) -> Any:
        if value is None and info.data.get("role", "assistant") != "assistant":
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _a_result_names_its_call(cls, value: str | None, info: Any) -> str | None:
        if value is None and info.data.get("role") == "tool":
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


class Function(Body):
    """What the model may call; ``parameters`` is the JSON schema of its arguments."""

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
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    metadata: Metadata | None = None  # the caller's own notes, kept nowhere
    service_tier: Literal["auto", "default"] | None = None

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

    @field_validator("top_logprobs")
    @classmethod
    def _top_logprobs_need_logprobs(cls, value: int | None, info: Any) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError("invalid_parameter_combination", "logprobs is not true")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _a_choice_needs_tools(cls, value: Any, info: Any) -> Any:
        tools = info.data.get("tools") or []
        if value in (None, "none", "auto"):
            return value
        if not tools:
            raise PydanticCustomError("invalid_parameter_combination", "tools is not set")
        names = [tool.function.name for tool in tools]
        if value != "required" and value.function.name not in names:
            raise PydanticCustomError(
                "unsupported_value",
                "no tool has the name {name}",
                {"name": json.dumps(value.function.name)},
            )
        return value

    @field_validator("add_generation_prompt")
    @classmethod
    def _an_answer_is_continued_or_begun(cls, value: bool | None, info: Any) -> bool | None:
        if value and info.data.get("continue_final_message"):
            raise PydanticCustomError(
                "invalid_parameter_combination", "continue_final_message is true"
            )
        return value

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
