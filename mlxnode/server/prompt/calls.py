"""The calls of a history and their results, in the form that a chat template takes."""

import hashlib
import json
import re
from collections.abc import Iterator

from mlxnode.server.notation.notation import CallNotation
from mlxnode.server.notation.write import write_calls
from mlxnode.server.prompt.abilities import Abilities, Beside, CallForm, Ids
from mlxnode.server.prompt.contents import paragraphs
from mlxnode.server.prompt.conversation import CalledFunction, Message, ToolCall
from mlxnode.server.prompt.tools import results_as_text

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def with_calls(
    messages: list[Message], can: Abilities, notation: CallNotation
) -> Iterator[Message]:
    """``messages`` with calls and results as the template takes them.

    Where it has no place for calls, they are written in ``notation``; where it has none for
    results, they are a message of the user. A text that it loses beside calls begins the
    answer after them.
    """
    loses_remarks = can.calls is not None and can.calls.remarks is Beside.LOST
    remarks: list[str] = []  # that have no answer yet
    number = 0  # of the calls before
    for found, results in _with_results(messages):
        message: Message | None = found
        calls = [] if found is None else found.get("tool_calls") or []
        if found is not None and loses_remarks:
            if calls:
                remarks.append(found["content"])
            elif found["role"] == "assistant":
                message = {**found, "content": paragraphs(*remarks, found["content"])}
                remarks = []
            elif found["role"] == "user" and any(remarks):
                yield {"role": "assistant", "content": paragraphs(*remarks)}
                remarks = []
        if message is not None and calls and can.calls is not None:
            own, results = _own_results(results, calls)
            yield from _exchange(message, own, can.calls, number)
            number += len(calls)
            calls = []
        elif message is not None:
            yield _written(message, notation) if calls else message
        if results and can.takes_results and (calls or can.takes_lone_results):
            ids = Ids.ANY if can.calls is None else can.calls.ids
            for result in results:
                id = adapted_id(_id_of(result), result.get("name", ""), ids, number)
                yield {**result, "tool_call_id": id}
        elif results:
            yield results_as_text(results)


def _own_results(
    results: list[Message], calls: list[ToolCall]
) -> tuple[list[Message], list[Message]]:
    """One result of each call, and the others."""
    open_calls = {call["id"] for call in calls}
    own: list[Message] = []
    others: list[Message] = []
    for result in results:
        (own if _id_of(result) in open_calls else others).append(result)
        open_calls.discard(_id_of(result))
    return own, others


def _with_results(
    messages: list[Message],
) -> Iterator[tuple[Message | None, list[Message]]]:
    """Each message with the results after it; None for results that follow no calls."""
    pair: tuple[Message | None, list[Message]] | None = None
    for message in messages:
        if message["role"] == "tool":
            pair = pair or (None, [])
            pair[1].append(message)
            continue
        if pair is not None:
            yield pair
        pair = (message, [])
    if pair is not None:
        yield pair


def _exchange(
    message: Message, results: list[Message], form: CallForm, number: int
) -> Iterator[Message]:
    """``message`` with its calls, and ``results``; ``number`` calls are before them."""
    calls = message.get("tool_calls") or []
    ids = {
        call["id"]: adapted_id(call["id"], call["function"]["name"], form.ids, number + index)
        for index, call in enumerate(calls)
    }
    order = {id: index for index, id in enumerate(ids)}
    # Some templates take results in the order of the calls.
    results = sorted(results, key=lambda m: order.get(_id_of(m), len(order)))
    if message["content"] and form.remarks is Beside.APART:
        yield {"role": "assistant", "content": message["content"]}
        message = {**message, "content": ""}
    if form.is_null and not message["content"]:
        message = {**message, "content": None}  # pyright: ignore[reportAssignmentType]
    groups = [calls] if form.several else [[call] for call in calls]
    for group in groups:
        yield {
            **message,
            "tool_calls": [_adapted(call, ids[call["id"]], form) for call in group],
        }
        members = {call["id"] for call in group}
        for result in results:
            if (id := _id_of(result)) in members:
                yield {**result, "tool_call_id": ids[id]}
        message = {"role": "assistant", "content": message["content"] and ""}


def _id_of(result: Message) -> str:
    return result.get("tool_call_id") or ""


def _adapted(call: ToolCall, id: str, form: CallForm) -> ToolCall:
    function: CalledFunction = {**call["function"]}
    if form.is_text:
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "id": id, "function": function}


def adapted_id(id: str, name: str, form: Ids, number: int) -> str:
    """``id`` in another form; the same in each request of the conversation."""
    if form is Ids.NAMED and not re.fullmatch(r"functions\..+:[0-9]+", id):
        return f"functions.{name}:{number}"
    if form is Ids.NINE and not re.fullmatch("[a-zA-Z0-9]{9}", id):
        value = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8])
        return "".join(_DIGITS[value // 36**place % 36] for place in range(9))
    return id


def _written(message: Message, notation: CallNotation) -> Message:
    """``message`` with its calls as text."""
    called = [
        (call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    ]
    content = (message["content"], write_calls(notation, called))
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "content": "\n".join(filter(None, content))}  # pyright: ignore
