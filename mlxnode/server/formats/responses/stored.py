"""A stored answer: the answer itself, and all items that it was made from."""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import TypeAdapter

from mlxnode.server.formats.responses.answers import Response
from mlxnode.server.formats.responses.items import (
    CallItem,
    Item,
    Items,
    MessageItem,
    ReasoningItem,
    ResultItem,
)

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(Items)
# The ids of items begin with the id of the answer that they were stored with.
_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{32})i?[0-9a-f]{4}")
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class StoredResponse(msgspec.Struct):
    """``response`` is the JSON of the answer; ``input`` are the items that it was made from.

    ``affinity`` is that of the conversation, which its next turns have too.
    """

    response: msgspec.Raw
    input: list[dict[str, Any]]
    affinity: str

    @classmethod
    def of(cls, response: Response, input: list[dict[str, Any]], affinity: str) -> bytes:
        """The stored form of an answer."""
        data = msgspec.Raw(msgspec.json.encode(response))
        return msgspec.json.encode(cls(data, input, affinity))

    @classmethod
    def read(cls, data: bytes) -> "StoredResponse":
        return msgspec.json.decode(data, type=cls)

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """All items until the end of the answer."""
        return [*self.input, *msgspec.json.decode(self.response)["output"]]


def answer_of_item(id: str) -> str | None:
    """The id of the answer with which the item ``id`` was stored, if it is one of ours."""
    found = _ITEM_ID.fullmatch(id)
    return found and f"resp_{found[1]}"


def read_items(stored: list[dict[str, Any]]) -> list[Item]:
    return _ITEMS.validate_python(stored)


def to_stored(items: Iterable[Item], answer: str) -> list[dict[str, Any]]:
    """``items`` as they are stored with the answer of the id ``answer``, and listed later."""
    own = answer.removeprefix("resp_")
    return [_to_stored(item, f"{own}i{index:04x}") for index, item in enumerate(items)]


def _to_stored(item: Item, suffix: str) -> dict[str, Any]:
    fields = item.model_dump(exclude_none=True)
    fields["type"] = kind = fields.get("type", "message")
    match item:
        case MessageItem():
            fields["content"] = _parts(item)
            fields["status"] = "completed"
        case CallItem():
            fields["arguments"] = _text(item.arguments)
            fields["status"] = "completed"
        case ResultItem():
            is_list = isinstance(item.output, list)
            fields["output"] = item.output if is_list else _text(item.output)
            fields["status"] = "completed"
        case ReasoningItem():
            fields["summary"] = fields.get("summary", [])
        case _:
            pass  # of tools that this server does not have
    return {"id": f"{_PREFIXES.get(kind, 'item')}_{suffix}", **fields}


def _parts(item: MessageItem) -> list[dict[str, Any]]:
    """The content of a message as a list of parts, each of its usual type."""
    is_answer = item.role == "assistant"
    kind = "output_text" if is_answer else "input_text"
    content = item.content or ""
    texts = [content] if isinstance(content, str) else [part.string for part in content]
    notes: dict[str, Any] = {"annotations": []} if is_answer else {}
    return [{"type": kind, "text": text, **notes} for text in texts]


def _text(value: Any) -> str:
    """What a client sent as JSON or as its text, as text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
