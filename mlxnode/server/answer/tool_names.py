"""Names of functions that a model can be trusted with, for those that clients choose freely.

Tool servers make names such as ``files/read.text``. Templates, notations and models know names
of letters, digits, ``_`` and ``-``, as OpenAI allows them.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from mlxnode.server.prompt.conversation import Conversation, Message, ToolCall

MAX_LENGTH = 64
_SAFE = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_LENGTH}}}")
_HASH_LENGTH = 8


def with_safe_names(conversation: Conversation) -> Conversation:
    """``conversation`` with safe names only; its functions keep the client's names beside them.

    Two names never become one; the names of earlier calls and results change in the same way.
    """
    safe = _safe_names(_names(conversation))
    if not safe:
        return conversation
    functions = [
        function
        if function.name not in safe
        else dataclasses.replace(function, name=safe[function.name], client_name=function.name)
        for function in conversation.functions
    ]
    messages = [_renamed(message, safe) for message in conversation.messages]
    return dataclasses.replace(conversation, functions=functions, messages=messages)


def _names(conversation: Conversation) -> Iterator[str]:
    """The names of the functions, and of the calls in the history."""
    for function in conversation.functions:
        yield function.name
    for message in conversation.messages:
        for call in message.get("tool_calls") or ():
            yield call["function"]["name"]


def _safe_names(names: Iterable[str]) -> dict[str, str]:
    """A safe name for each name that is not safe."""
    originals = dict.fromkeys(names)
    taken = {name for name in originals if _SAFE.fullmatch(name)}
    safe: dict[str, str] = {}
    for name in originals:
        if name in taken or not name:
            continue
        short = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
        if len(short) > MAX_LENGTH or short in taken:
            # Of the name alone, so that it is the same in each request of a conversation.
            digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
            short = f"{short[: MAX_LENGTH - _HASH_LENGTH - 1]}_{digest}"
        safe[name] = short
        taken.add(short)
    return safe


def _renamed(message: Message, safe: Mapping[str, str]) -> Message:
    calls = message.get("tool_calls")
    is_named = message["role"] == "tool" and message.get("name") in safe
    if not calls and not is_named:
        return message
    changed: dict[str, Any] = dict(message)
    if is_named:
        changed["name"] = safe[message.get("name", "")]
    if calls:
        changed["tool_calls"] = [_renamed_call(call, safe) for call in calls]
    return cast(Message, changed)


def _renamed_call(call: ToolCall, safe: Mapping[str, str]) -> ToolCall:
    function = call["function"]
    name = safe.get(function["name"], function["name"])
    return {**call, "function": {**function, "name": name}}
