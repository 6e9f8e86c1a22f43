"""The messages of a chat request, as OpenAI documents them and as other servers write them."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.fields import MAX_PARTS
from mlxnode.server.formats.rules import Rule, given, none_of, one_of, required

# What other servers and older clients write into the history as parts of a content.
_Parts = Field(max_length=MAX_PARTS)
_TEXTS = ("text", "input_text", "output_text")


class ContentPart(Body):
    """A part of a content. What a part of the model's own thoughts holds is reasoning."""

    type: Literal[
        "text",
        "input_text",
        "output_text",
        "refusal",
        "thinking",
        "redacted_thinking",
        "reasoning",
    ]
    text: str | None = None
    content: str | None = None  # some write the text here
    refusal: str | None = None
    thinking: str | list[dict[str, Any]] | None = None
    reasoning: str | None = None

    neutral: ClassVar = {
        "annotations": (ANY,),
        "cache_control": (ANY,),
        "data": (ANY,),  # of redacted thoughts
        "logprobs": (ANY,),
        "prompt_cache_breakpoint": (),
        "signature": (ANY,),
        "summary": (ANY,),
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        given("text", "content", unless=none_of("type", *_TEXTS)),
    )

    @property
    def is_text(self) -> bool:
        """True if the part is seen by a reader of the answer."""
        return self.type == "refusal" or self.type in _TEXTS

    @property
    def reasoning_text(self) -> str:
        """The thoughts in the part; Mistral writes them as a list of text parts."""
        if self.type not in ("thinking", "reasoning"):
            return ""
        if isinstance(self.thinking, list):
            return "".join(str(part.get("text") or "") for part in self.thinking)
        return self.thinking or self.reasoning or self.text or ""


class FunctionCall(Body):
    """A call in an earlier answer; ``arguments`` is JSON in a string, or what came of it."""

    name: str
    arguments: Any = None


class CustomCall(Body):
    """A call of a tool that takes a text."""

    name: str
    input: str | None = None


class ToolCall(Body):
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None

    neutral: ClassVar = {"index": (ANY,)}
    rules: ClassVar[tuple[Rule, ...]] = (required("function", unless=none_of("custom", None)),)


class ReasoningDetail(Body):
    """A piece of an earlier answer's reasoning, as OpenRouter writes it."""

    text: str | None = None
    summary: str | None = None


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], _Parts] | None = None
    name: str | None = None
    # The reasoning of an earlier answer, by the names that servers give it.
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    reasoning_details: Annotated[list[ReasoningDetail], _Parts] | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], _Parts] | None = None
    function_call: FunctionCall | None = None
    tool_call_id: str | None = None

    neutral: ClassVar = {
        "annotations": (ANY,),
        "audio": (),
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        required("content", unless=one_of("role", "assistant", "tool", "function")),
    )
