"""The messages of a request, and the blocks of their contents, as Anthropic documents them."""

from typing import Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.fields import MAX_PARTS, ToolName
from mlxnode.server.formats.rules import Rule, none_of, one_of, required

# What Anthropic's own servers have written into the history. The blocks around them tell what
# came of them.
ServerBlock = Literal[
    "advisor_tool_result",
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "container_upload",
    "fallback",
    "mcp_tool_listing",
    "mcp_tool_result",
    "mcp_tool_use",
    "server_tool_use",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "web_fetch_tool_result",
    "web_search_tool_result",
]
SERVER_BLOCKS: tuple[str, ...] = get_args(ServerBlock)
_TEXT_ONLY = "the models of this server read text only"


def _refuse_files(type: Any) -> Any:
    if type in ("base64", "url", "file"):
        raise PydanticCustomError(
            "unsupported_value",
            "only documents of the types text and content are read: " + _TEXT_ONLY,
        )
    return type


class Tool(Body):
    """A function that the client runs; or, by its type, a tool of Anthropic's servers."""

    type: str | None = None
    name: ToolName | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None

    harmless: ClassVar = {
        "allowed_callers": (),
        "cache_control": (ANY,),  # the end of the tools is a border in any case
        "defer_loading": (False,),
        "eager_input_streaming": (ANY,),  # arguments are always streamed as they come
        "input_examples": ([],),
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        required("name", unless=none_of("type", "custom", None)),
    )

    @property
    def is_function(self) -> bool:
        return self.type in ("custom", None)


class ToolChange(Body):
    """A tool that is offered, or not any more, from a place of the conversation on.

    It is one of the request's tools, by its name, or has its own definition.
    """

    type: str
    name: str | None = None
    definition: Tool | None = None

    harmless: ClassVar = {"server_name": (ANY,)}


class ResultPart(Body):
    """A part of a tool's result, or of a document. What is no text is told in words."""

    type: str
    text: str | None = None
    tool_name: str | None = None  # of a reference to a tool, which is offered in any case
    cache_control: dict[str, Any] | None = None

    harmless: ClassVar = {"citations": (ANY,), "source": (ANY,)}


class TextPart(Body):
    """A text of the system prompt."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None

    harmless: ClassVar = {"citations": (ANY,)}


class Source(Body):
    """What a document holds."""

    type: Annotated[Literal["text", "content"], BeforeValidator(_refuse_files)]
    data: str | None = None
    content: str | list[ResultPart] | None = None

    harmless: ClassVar = {"media_type": (ANY,)}


class Block(Body):
    """A block of a content; which fields it has depends on its type."""

    type: Literal[
        "text",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "document",
        "search_result",
        "tool_addition",
        "tool_removal",
        ServerBlock,
    ]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: str | list[ResultPart] | dict[str, Any] | None = None
    is_error: bool | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    tool: ToolChange | None = None
    cache_control: dict[str, Any] | None = None

    harmless: ClassVar = {
        "caller": (ANY,),
        "citations": (ANY,),
        "data": (ANY,),  # of redacted thoughts, which nobody can read
        "toolset_name": (ANY,),
    }
    rules: ClassVar[tuple[Rule, ...]] = (
        required("text", unless=none_of("type", "text")),
        required("name", unless=none_of("type", "tool_use")),
        required("source", unless=none_of("type", "document")),
        required("tool", unless=none_of("type", "tool_addition", "tool_removal")),
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_images(cls, raw: Any) -> Any:
        # Before the fields, whose types are those of other blocks.
        if isinstance(raw, dict) and cast(dict[str, Any], raw).get("type") == "image":
            raise PydanticCustomError("unsupported_value", f"images are refused: {_TEXT_ONLY}")
        return raw


class Message(Body):
    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Field(max_length=MAX_PARTS)] | None = None

    harmless: ClassVar = {"cache_control": (ANY,)}
    rules: ClassVar[tuple[Rule, ...]] = (
        required("content", unless=one_of("role", "assistant")),
    )

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the content; none if it is a text."""
        return self.content if isinstance(self.content, list) else []
