"""The request body of ``/v1/responses``."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from mlxnode.server.answer.settings import Settings
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.chat.reasoning import Reasoning, ReasoningFields
from mlxnode.server.formats.fields import (
    MAX_MESSAGES,
    JsonObject,
    NonEmpty,
    Note,
    TokenLimit,
)
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.responses.items import Item, Items, MessageItem
from mlxnode.server.formats.responses.tools import ToolChoice, Tools, unserved
from mlxnode.server.formats.rules import Rule, needs, one_of, required

LOGPROBS = "message.output_text.logprobs"
SEALED_THOUGHTS = "reasoning.encrypted_content"


class ResponseReasoning(Reasoning):
    """How much to reason, and whether thoughts are reported as summaries."""

    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed", "none"] | None = None

    harmless: ClassVar = {"context": (), "mode": ("standard",)}

    @property
    def wants_summary(self) -> bool:
        asked = self.summary or self.generate_summary
        return asked is not None and asked != "none"


class PlainFormat(Body):
    """Any text, or any JSON object; llama.cpp takes a schema for it, too."""

    type: Literal["text", "json_object"]
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None


class SchemaFormat(Body):
    type: Literal["json_schema"]
    name: Note = None
    description: Note = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


def _format_kind(value: Any) -> str:
    """The kind of a format, so that an error is about that kind alone."""
    has_schema = isinstance(value, dict) and value.get("type") == "json_schema"
    return "a schema" if has_schema else "plain"


class Text(Body):
    """The form of the answer's text."""

    format: (
        Annotated[
            Annotated[PlainFormat, Tag("plain")] | Annotated[SchemaFormat, Tag("a schema")],
            Discriminator(_format_kind),
        ]
        | None
    ) = None

    harmless: ClassVar = {"verbosity": ("medium",)}


class ResponsesBody(ReasoningFields, GenerationBody):
    """``POST /v1/responses``."""

    input: str | Annotated[Items, Field(max_length=MAX_MESSAGES)] | None = None
    instructions: str | None = None
    previous_response_id: NonEmpty | None = None
    store: bool | None = None
    max_output_tokens: TokenLimit = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    # More than the base has; bodies are frozen.
    reasoning: ResponseReasoning | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    text: Text | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[str], Field(max_length=64)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: JsonObject | None = None
    prompt_cache_key: Note = None  # prefixes are found by their text
    safety_identifier: Note = None

    rules: ClassVar[tuple[Rule, ...]] = (
        required("input", "previous_response_id"),
        needs("n", one_of("n", 1), "an answer has one choice"),
    )
    neutral: ClassVar = {
        "background": (False,),
        "client_metadata": (ANY,),
        "conversation": (),
        "moderation": (),
        "prompt": (),
    }
    harmless: ClassVar = {
        **GenerationBody.harmless,
        "access_programs": (),
        "background_options": (),
        "context_management": (),
        "image": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": (),
        "service_tier": ("auto", "default"),
    }
    spellings: ClassVar = {
        **GenerationBody.spellings,
        **ReasoningFields.spellings,
        "max_completion_tokens": "max_output_tokens",
    }

    @property
    def requested_tokens(self) -> int | None:
        limits = (self.max_output_tokens, super().requested_tokens)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def num_logprobs(self) -> int | None:
        if LOGPROBS in (self.include or ()):
            return self.top_logprobs or 0
        return self.top_logprobs or None

    @property
    def settings(self) -> Settings:
        return replace(super().settings, param="input")

    @property
    def items(self) -> list[Item]:
        """The items of the input; a string is a message of the user."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return [*(self.input or ())]

    @property
    def wants_sealed_thoughts(self) -> bool:
        return SEALED_THOUGHTS in (self.include or ())

    @property
    def idle(self) -> list[str]:
        names = [*super().idle, *unserved(self.tools or [])]
        known = (LOGPROBS, SEALED_THOUGHTS)
        return names + [f"include ({name})" for name in self.include or () if name not in known]
