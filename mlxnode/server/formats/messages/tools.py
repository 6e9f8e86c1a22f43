"""The functions that a request offers: its tools, as its conversation has changed them."""

from collections.abc import Iterable
from typing import NamedTuple

from mlxnode.server.formats.messages.blocks import Message, Tool


class Offer(NamedTuple):
    """A function, and where in the body it is defined."""

    place: str
    tool: Tool


def offered(tools: Iterable[Tool], messages: Iterable[Message]) -> dict[str, Offer]:
    """The functions at the end of ``messages``, by name; the last one of a name counts.

    A tool whose loading is deferred is offered like the others: nothing has to be found first.
    """
    declared = {
        tool.name or "": Offer(f"tools[{index}]", tool)
        for index, tool in enumerate(tools)
        if tool.is_function
    }
    now = dict(declared)
    for index, message in enumerate(messages):
        for number, block in enumerate(message.blocks):
            if (change := block.tool) is None:
                continue
            definition = change.definition
            name = (definition and definition.name) or change.name or ""
            if block.type == "tool_removal":
                now.pop(name, None)
            elif definition is not None and definition.is_function:
                place = f"messages[{index}].content[{number}].tool.definition"
                declared[name] = now[name] = Offer(place, definition)
            elif name in declared:
                now[name] = declared[name]
    return now
