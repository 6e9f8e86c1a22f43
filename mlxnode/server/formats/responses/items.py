"""The items of an input: messages, thoughts, calls and results, as clients replay them."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.fields import MAX_PARTS, NonEmpty
from mlxnode.server.formats.rules import Rule, none_of, one_of, required

# What every item may have: notes of the server that made it.
_NOTES: dict[str, tuple[Any, ...]] = {
    "async": (ANY,),
    "caller": (ANY,),
    "created_by": (ANY,),
    "status": (ANY,),
}


class TextPart(Body):
    """A part of a content that is text."""

    type: Literal[
        "input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal"
    ]
    text: str | None = None
    refusal: str | None = None

    neutral: ClassVar = {
        "annotations": (ANY,),
        "cache_control": (ANY,),
        "logprobs": (ANY,),
        "parsed": (ANY,),  # written by OpenAI's own packages
        "prompt_cache_breakpoint": (ANY,),
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        required("text", unless=one_of("type", "refusal")),
        required("refusal", unless=none_of("type", "refusal")),
    )

    @property
    def string(self) -> str:
        return self.text or self.refusal or ""


class MessageItem(Body):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_PARTS)] | None = None

    neutral: ClassVar = {"id": (ANY,), "phase": (ANY,), **_NOTES}


class ReasoningItem(Body):
    """A thought of an earlier answer, in one or several of its forms."""

    type: Literal["reasoning"]
    summary: list[TextPart] | None = None
    content: list[TextPart] | None = None
    encrypted_content: str | None = None

    neutral: ClassVar = {"id": (ANY,), **_NOTES}


class CallItem(Body):
    """A call in an earlier answer; ``arguments`` is JSON in a string, or what came of it."""

    type: Literal["function_call"]
    call_id: str | None = None
    name: NonEmpty
    namespace: str | None = None
    arguments: Any = None

    neutral: ClassVar = {"id": (ANY,), "parsed_arguments": (ANY,), **_NOTES}


class CustomCallItem(Body):
    """A call of a tool that takes a text."""

    type: Literal["custom_tool_call"]
    call_id: str | None = None
    name: NonEmpty
    namespace: str | None = None
    input: str | None = None

    neutral: ClassVar = {"id": (ANY,), **_NOTES}


class ResultItem(Body):
    """The result of a call: a text, or a list of parts, of which those with a text are read."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str | None = None
    output: Any = None

    neutral: ClassVar = {"id": (ANY,), "name": (ANY,), "namespace": (ANY,), **_NOTES}


class ReferenceItem(Body):
    """An item of a stored answer."""

    type: Literal["item_reference"] | None = None
    id: NonEmpty

    @property
    def is_thought(self) -> bool:
        return self.id.startswith("rs_")


_KINDS = {
    "message": "a message",
    "reasoning": "a thought",
    "function_call": "a call",
    "custom_tool_call": "a custom call",
    "function_call_output": "a result",
    "custom_tool_call_output": "a result",
    "item_reference": "a reference",
}


class OtherItem(Body):
    """An item of a tool that this server does not have, with all its fields."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(json_schema_extra={"not": {"enum": [*_KINDS]}})]


def _kind(value: Any) -> str:
    """The kind of an item, so that an error is about that kind alone."""
    if not isinstance(value, dict):
        return "a message"
    kind = value.get("type")
    if kind is None:
        is_reference = "id" in value and "role" not in value
        return "a reference" if is_reference else "a message"
    return _KINDS.get(kind, "another item") if isinstance(kind, str) else "another item"


Item = (
    MessageItem
    | ReasoningItem
    | CallItem
    | CustomCallItem
    | ResultItem
    | ReferenceItem
    | OtherItem
)


Items = list[
    Annotated[
        Annotated[MessageItem, Tag("a message")]
        | Annotated[ReasoningItem, Tag("a thought")]
        | Annotated[CallItem, Tag("a call")]
        | Annotated[CustomCallItem, Tag("a custom call")]
        | Annotated[ResultItem, Tag("a result")]
        | Annotated[ReferenceItem, Tag("a reference")]
        | Annotated[OtherItem, Tag("another item")],
        Discriminator(_kind),
    ]
]
