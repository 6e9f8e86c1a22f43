"""Every text of a request that its client, a user or a tool may have written."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, cast

from mlxnode.server.notation.notation import Markers
from mlxnode.server.notation.tool_use import Function, ToolUse
from mlxnode.server.prompt.conversation import Conversation, Message

Change = Callable[[str], str]


def rewrite(
    conversation: Conversation, tools: ToolUse | None, change: Change, kept: Markers | None
) -> tuple[Conversation, ToolUse | None]:
    """A copy of the request, with each text of it changed by ``change``.

    ``tools`` are those of the conversation.

    Roles and types are not the client's to choose. In the contents of the assistant's messages,
    the texts around the ``kept`` markers are changed one by one, and the markers stay.
    """
    messages = [_message(message, change, kept) for message in conversation.messages]
    offered = conversation.functions if tools is None else tools.functions
    functions = [_function(function, change) for function in offered]
    variables = {
        name: change(value) if isinstance(value, str) else value
        for name, value in conversation.variables.items()
    }
    breakpoints = tuple(
        place._replace(head=_content(place.head, role, change, kept))
        for place in conversation.breakpoints
        for role in [conversation.messages[place.message]["role"]]
    )
    conversation = dataclasses.replace(
        conversation,
        messages=messages,
        functions=functions,
        variables=variables,
        breakpoints=breakpoints,
    )
    return conversation, tools and dataclasses.replace(tools, functions=functions)


def _message(message: Message, change: Change, kept: Markers | None) -> Message:
    changed: dict[str, Any] = {}
    for name, value in message.items():
        if name == "role":
            changed[name] = value
        elif name == "content":
            changed[name] = _content(message["content"], message["role"], change, kept)
        elif name == "tool_calls":
            changed[name] = [_call(call, change) for call in message.get("tool_calls") or ()]
        else:
            changed[name] = _nested(value, change)
    return cast(Message, changed)


def _content(text: str, role: str, change: Change, kept: Markers | None) -> str:
    if role == "assistant" and kept is not None:
        return _around(text, kept, change)
    return change(text)


def _call(call: Any, change: Change) -> dict[str, Any]:
    """A call of the history: the names of its fields and its type stay."""
    changed: dict[str, Any] = {}
    for name, value in call.items():
        if name == "type":
            changed[name] = value
        elif isinstance(value, dict):
            fields = cast(dict[str, Any], value)
            changed[name] = {key: _nested(field, change) for key, field in fields.items()}
        else:
            changed[name] = _nested(value, change)
    return changed


def _around(text: str, markers: Markers, change: Change) -> str:
    pattern = f"({re.escape(markers.start)}|{re.escape(markers.end)})"
    pieces = re.split(pattern, text)  # text and markers by turns
    pieces[::2] = map(change, pieces[::2])
    return "".join(pieces)


def _function(function: Function, change: Change) -> Function:
    return dataclasses.replace(
        function,
        name=change(function.name),
        description=_nested(function.description, change),
        parameters=_nested(function.parameters, change),
    )


def _nested(value: Any, change: Change) -> Any:
    """``value`` with its strings and keys changed; of any depth, so without recursion."""
    root: list[Any] = [value]
    todo: list[tuple[Any, Any]] = [(root, 0)]
    while todo:
        parent, key = todo.pop()
        value = parent[key]
        if isinstance(value, str):
            parent[key] = change(value)
        elif isinstance(value, list):
            copy = list(cast(list[Any], value))
            parent[key] = copy
            todo += [(copy, index) for index in range(len(copy))]
        elif isinstance(value, dict):
            fields = cast(dict[str, Any], value)
            renamed = {change(name): field for name, field in fields.items()}
            parent[key] = renamed
            todo += [(renamed, name) for name in renamed]
    return root[0]
