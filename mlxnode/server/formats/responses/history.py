"""From the items of an input to the messages that chat templates take.

A template knows one message for all that the assistant did before somebody else spoke: its
thought, its text and its calls. The items of one answer are joined to such a message.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mlxnode.server.formats.responses.items import (
    CallItem,
    CustomCallItem,
    Item,
    MessageItem,
    OtherItem,
    ReasoningItem,
    ResultItem,
    TextPart,
)
from mlxnode.server.formats.responses.tools import name_within
from mlxnode.server.formats.thoughts import unseal
from mlxnode.server.prompt.conversation import Message, ToolCall
from mlxnode.server.prompt.history import arguments_of, link_results

# Items of tools that run at the client or elsewhere: the field with what was asked, if they are
# calls, and that with what came of it, if they are results.
_CALLS = {"local_shell_call": "action", "shell_call": "action", "apply_patch_call": "operation"}
_RESULTS = ("local_shell_call_output", "shell_call_output", "apply_patch_call_output")


def to_messages(items: Iterable[Item]) -> list[Message]:
    """The conversation in the form that chat templates take."""
    writer = _Messages()
    for item in items:
        writer.add(item)
    return link_results(writer.messages)


def unread(items: Iterable[Item]) -> Iterator[str]:
    """The items, and parts of items, that the model is not told of, each by its place."""
    for index, item in enumerate(items):
        path = f"input[{index}]"
        if isinstance(item, OtherItem):
            if item.type not in (*_CALLS, *_RESULTS, "mcp_call"):
                yield f"{path} ({item.type})"
        elif isinstance(item, ResultItem) and isinstance(item.output, list):
            for i, part in enumerate(item.output):
                if _text_of_part(part) is None:
                    yield f"{path}.output[{i}]"
        elif isinstance(item, ReasoningItem):
            sealed = item.encrypted_content
            if sealed and unseal(sealed) is None:  # by another server
                yield f"{path}.encrypted_content"


class _Messages:
    """Collects messages; the last one may still grow if it is the assistant's."""

    def __init__(self):
        self.messages: list[Message] = []

    def add(self, item: Item) -> None:
        match item:
            case MessageItem():
                self._add_message(item)
            case ReasoningItem():
                self._add_thought(_thought_of(item))
            case CallItem():
                name = name_within(item.namespace, item.name)
                self._add_call(item.call_id, name, item.arguments)
            case CustomCallItem():
                name = name_within(item.namespace, item.name)
                self._add_call(item.call_id, name, {"input": item.input or ""})
            case ResultItem():
                self._add_result(item.call_id, _result_text(item.output))
            case OtherItem():
                self._add_other(item)
            case _:
                raise AssertionError("references are resolved before")

    def _add_message(self, item: MessageItem) -> None:
        content = item.content or ""
        if not isinstance(content, str):
            content = "".join(part.string for part in content)
        if item.role != "assistant":
            self.messages.append({"role": item.role, "content": content})
            return
        answer = self._answer()
        if answer["content"] and not answer.get("tool_calls"):  # another answer
            answer = self._new_answer()
        answer["content"] += content

    def _add_thought(self, thought: str) -> None:
        if not thought:
            return
        answer = self._answer()
        if answer["content"] or answer.get("tool_calls"):
            answer = self._new_answer()
        joined = [answer.get("reasoning_content", ""), thought]
        answer["reasoning_content"] = "\n\n".join(filter(None, joined))

    def _add_call(self, id: str | None, name: str, arguments: Any) -> None:
        call: ToolCall = {
            "id": id or "",
            "type": "function",
            "function": {"name": name, "arguments": arguments_of(arguments)},
        }
        self._answer().setdefault("tool_calls", []).append(call)

    def _add_result(self, id: str | None, text: str) -> None:
        self.messages.append({"role": "tool", "content": text, "tool_call_id": id or ""})

    def _add_other(self, item: OtherItem) -> None:
        fields = item.model_extra or {}
        id = str(fields.get("call_id") or fields.get("id") or "")
        if item.type in _CALLS:
            name = item.type.removesuffix("_call")
            self._add_call(id, name, fields.get(_CALLS[item.type]))
        elif item.type in _RESULTS:
            self._add_result(id, _result_text(fields.get("output")))
        elif item.type == "mcp_call":
            name = name_within(str(fields.get("server_label") or ""), str(fields.get("name")))
            self._add_call(id, name, fields.get("arguments"))
            self._add_result(id, _result_text(fields.get("output") or fields.get("error")))

    def _answer(self) -> Message:
        """The message of the assistant at the end."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            return self.messages[-1]
        return self._new_answer()

    def _new_answer(self) -> Message:
        self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]


def _thought_of(item: ReasoningItem) -> str:
    """The thought in the first of its forms that has it: sealed, as text, as a summary."""
    sealed = unseal(item.encrypted_content) if item.encrypted_content else None
    return sealed or _joined(item.content) or _joined(item.summary)


def _joined(parts: list[TextPart] | None) -> str:
    return "\n\n".join(part.string for part in parts or ())


def _result_text(output: Any) -> str:
    """The result of a call as text; a list of parts is joined."""
    if output is None or isinstance(output, str):
        return output or ""
    if isinstance(output, list):
        texts = [_text_of_part(part) for part in output]
        if any(text is not None for text in texts):
            return "".join(text or "" for text in texts)
    return json.dumps(output, ensure_ascii=False)


def _text_of_part(part: Any) -> str | None:
    """The text of a part of a result; None for an image or a file."""
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else None
