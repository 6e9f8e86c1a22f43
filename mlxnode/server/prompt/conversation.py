"""A request to a chat model, free of any wire format."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Required, TypedDict

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.notation.tool_use import Function

SYSTEM = ("system", "developer")  # the roles of those who run the model


class CalledFunction(TypedDict):
    """``arguments`` is the object that the model wrote, or its text if it is not JSON."""

    name: str
    arguments: Any


class ToolCall(TypedDict):
    """A tool call of an earlier answer."""

    id: str
    type: str
    function: CalledFunction


class Message(TypedDict, total=False):
    """One message, in the form that chat templates take (they are written for transformers)."""

    role: Required[str]  # system, developer, user, assistant or tool
    content: Required[str]
    name: str
    reasoning_content: str  # of an earlier answer; some templates write it again
    reasoning: str  # the same, for templates that know it by this name
    tool_calls: list[ToolCall]
    tool_call_id: str


class Breakpoint(NamedTuple):
    """A place where the client says that its other prompts may part from this one.

    ``message`` counts from the end, -1 is the last message: a message may still be put before
    the first one. ``head`` is the start of the message's content, up to the place.
    """

    message: int
    head: str


@dataclass(frozen=True)
class Conversation:
    """The messages, and how the model has to answer them.

    ``functions`` are the functions that may be called, ``must_call`` requires a call.
    ``variables`` are set in the chat template. With ``continues``, the answer continues the
    last message. ``starts_answer`` opens a message of the assistant after the last message.
    """

    messages: list[Message]
    functions: list[Function] = field(default_factory=list)
    must_call: bool = False
    max_calls: int | None = None  # in one answer
    constraint: Constraint | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    reasoning_effort: str | None = None
    wants_thinking: bool | None = None  # None: as the effort or the template says
    thinking_budget: int | None = None  # tokens of reasoning, at most
    continues: bool = False
    starts_answer: bool = True
    breakpoints: tuple[Breakpoint, ...] = ()
