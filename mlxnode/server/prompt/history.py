"""The calls of a conversation and their results: completed, as each server writes them.

Clients send what other servers wrote: calls without ids, arguments that are no object, results
that name no call. Templates rely on all of it.
"""

import itertools
from typing import Any

from mlxnode.server.json_text import load_json
from mlxnode.server.prompt.conversation import Message, ToolCall

_UNREADABLE = "arguments"  # the key of arguments that are no object: their text is kept
_MAX_PARALLEL = 128  # calls of one answer that a result without an id is looked for in


def arguments_of(value: Any) -> dict[str, Any]:
    """The arguments of a call as the object that templates iterate over.

    ``value`` is JSON in a string, which is an object, or anything else that a server wrote:
    nothing at all is no arguments, and what is no object becomes the only argument.
    """
    for _ in range(2):  # some servers write the string as a string again
        if not isinstance(value, str):
            break
        try:
            value = load_json(value or "{}")
        except (ValueError, RecursionError):
            break
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    return value if isinstance(value, dict) else {_UNREADABLE: value}


def link_results(messages: list[Message]) -> list[Message]:
    """``messages`` in which each call has an id, and each result the id and name of its call.

    Results follow their calls at once. A result belongs to the call of its id; without one,
    to the call of its name, or to the first that has no result yet.
    """
    linked: list[Message] = []
    calls: dict[str, ToolCall] = {}  # of the last answer, by id: those without a result
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    num_calls = 0
    for message in _results_first(messages):
        linked.append(message)
        if message["role"] == "tool":
            linked[-1] = _link(message, calls, names)
        elif message["role"] == "assistant":
            calls = {}
            for call in message.get("tool_calls") or ():
                id = call["id"] if call["id"] not in calls else ""
                id = id or f"call_{num_calls}"
                calls[id] = {**call, "id": id}
                names[id] = call["function"]["name"]
                num_calls += 1
            if calls:
                linked[-1] = {**message, "tool_calls": list(calls.values())}
    return linked


def _link(result: Message, calls: dict[str, ToolCall], names: dict[str, str]) -> Message:
    """``result`` with the id and the name of its call, which is taken from ``calls``."""
    id, name = result.get("tool_call_id") or "", result.get("name")
    if id not in calls and id not in names and calls:
        first = itertools.islice(calls.values(), _MAX_PARALLEL)
        of_name = (call["id"] for call in first if call["function"]["name"] == name)
        id = next(of_name, None) or next(iter(calls))
    calls.pop(id, None)
    name = names.get(id) or name or "tool"
    return {**result, "tool_call_id": id or "call_0", "name": name}


def _results_first(messages: list[Message]) -> list[Message]:
    """``messages`` in which nothing stands between calls and their results."""
    ordered: list[Message] = []
    results = 0  # the index behind the last results of the last calls
    has_calls = False
    for message in messages:
        if message["role"] == "assistant":
            has_calls = bool(message.get("tool_calls"))
        if message["role"] == "tool" and has_calls:
            ordered.insert(results, message)
        else:
            ordered.append(message)
            if message["role"] != "assistant":
                continue
            results = len(ordered) - 1
        results += 1
    return ordered
