"""The grammar of a stream of ``/v1/responses``: a state machine over its events.

Written from OpenAI's reference of the streaming events. Each event also has to be valid under
the type of that name in OpenAI's package.
"""

from collections.abc import Callable
from typing import Any

from openai.types import responses as types
from pydantic import TypeAdapter

Json = dict[str, Any]
EVENT = TypeAdapter(types.ResponseStreamEvent)
RESPONSE = TypeAdapter(types.Response)
LAST = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}


def check_stream(events: list[Json]) -> Json:
    """Check all ``events``; returns the response of the last one."""
    machine = StreamGrammar()
    for event in events:
        machine.feed(event)
    assert machine.final is not None, "the stream ends without a last event"
    return machine.final


class StreamGrammar:
    """Feed it each event of a stream in its order."""

    def __init__(self):
        self.final: Json | None = None
        self._count = 0
        self._created: Json | None = None
        self._done: list[Json] = []
        self._item: Json | None = None  # the one that is open
        self._part: Json | None = None  # the part of its content or summary that is open
        self._parts: list[Json] = []  # those that are done
        self._text: str | None = None  # what its deltas add up to, until it is done
        self._is_text_done = False

    def feed(self, event: Json) -> None:
        EVENT.validate_python(event, strict=True)
        assert self.final is None, f"after the last event: {event}"
        assert event["sequence_number"] == self._count, event
        self._count += 1
        kind = event["type"]
        if self._count == 1:
            assert kind == "response.created"
        if "response" in event:
            self._on_response(kind, event["response"])
            return
        handlers: dict[str, Callable[[Json], None]] = {
            "response.output_item.added": self._on_item_added,
            "response.output_item.done": self._on_item_done,
            "response.content_part.added": self._on_part_added,
            "response.content_part.done": self._on_part_done,
            "response.reasoning_summary_part.added": self._on_part_added,
            "response.reasoning_summary_part.done": self._on_part_done,
            "response.output_text.delta": self._on_delta,
            "response.output_text.done": self._on_text_done,
            "response.reasoning_text.delta": self._on_delta,
            "response.reasoning_text.done": self._on_text_done,
            "response.reasoning_summary_text.delta": self._on_delta,
            "response.reasoning_summary_text.done": self._on_text_done,
            "response.function_call_arguments.delta": self._on_delta,
            "response.function_call_arguments.done": self._on_text_done,
            "response.custom_tool_call_input.delta": self._on_delta,
            "response.custom_tool_call_input.done": self._on_text_done,
        }
        self._check_place(event)
        handlers[kind](event)

    # --- the response ---------------------------------------------------------------

    def _on_response(self, kind: str, response: Json) -> None:
        RESPONSE.validate_python(response, strict=True)
        if self._created is None:
            self._created = response
        assert response["id"] == self._created["id"]
        assert response["created_at"] == self._created["created_at"]
        if kind in ("response.created", "response.in_progress"):
            assert response["status"] == "in_progress" and response["usage"] is None
            assert response["error"] is None and response["incomplete_details"] is None
            return
        assert response["status"] == LAST[kind]
        assert (response["error"] is not None) == (kind == "response.failed")
        is_incomplete = kind == "response.incomplete"
        assert (response["incomplete_details"] is not None) == is_incomplete
        assert response["output"] == self._done
        if kind != "response.failed":
            assert self._item is None, "an item is still open"
            usage = response["usage"]
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        self.final = response

    # --- items ----------------------------------------------------------------------

    def _check_place(self, event: Json) -> None:
        assert event["output_index"] == len(self._done), event
        if "item_id" in event:
            assert self._item is not None and event["item_id"] == self._item["id"], event

    def _on_item_added(self, event: Json) -> None:
        item = event["item"]
        assert self._item is None and self._created is not None
        assert item["id"] and item["id"] not in {done["id"] for done in self._done}
        assert item["status"] == "in_progress"
        for name in ("content", "summary", "arguments", "input"):
            assert not item.get(name), f"{name} of an item that begins"
        self._item, self._parts, self._text = item, [], None
        if item["type"] in ("function_call", "custom_tool_call"):
            self._text = ""

    def _on_item_done(self, event: Json) -> None:
        item, begun = event["item"], self._item
        assert begun is not None and self._part is None
        for name in ("id", "type", "role", "call_id", "name", "namespace"):
            assert item.get(name) == begun.get(name), name
        assert item["status"] in ("completed", "incomplete")
        match item["type"]:
            case "message":
                assert item["content"] == self._parts and self._parts
            case "reasoning":
                shown = item.get("content") or item["summary"]
                assert shown == self._parts and self._parts
                assert not (item.get("content") and item["summary"])
            case "function_call":
                assert item["arguments"] == self._text and self._is_text_done
            case kind:
                raise AssertionError(kind)
        self._done.append(item)
        self._item, self._is_text_done = None, False

    # --- parts ----------------------------------------------------------------------

    def _on_part_added(self, event: Json) -> None:
        assert self._item is not None and self._part is None
        self._check_part(event)
        assert event["part"]["text"] == ""
        self._part, self._text = event["part"], ""

    def _on_part_done(self, event: Json) -> None:
        assert self._part is not None and self._is_text_done
        self._check_part(event)
        assert event["part"]["type"] == self._part["type"]
        assert event["part"]["text"] == self._text
        self._parts.append(event["part"])
        self._part, self._text, self._is_text_done = None, None, False

    def _check_part(self, event: Json) -> None:
        assert self._item is not None
        index = "summary_index" if "summary" in event["type"] else "content_index"
        assert event[index] == len(self._parts)
        kinds = {
            ("message", "content_index"): "output_text",
            ("reasoning", "content_index"): "reasoning_text",
            ("reasoning", "summary_index"): "summary_text",
        }
        assert event["part"]["type"] == kinds[self._item["type"], index]

    def _on_delta(self, event: Json) -> None:
        assert self._text is not None and not self._is_text_done
        self._check_text(event)
        assert event["delta"], "a delta without text"
        self._text += event["delta"]

    def _on_text_done(self, event: Json) -> None:
        assert self._text is not None and not self._is_text_done
        self._check_text(event)
        whole = next(event[name] for name in ("text", "arguments", "input") if name in event)
        assert whole == self._text
        self._is_text_done = True

    def _check_text(self, event: Json) -> None:
        """The event is one of the open part, or of the open call."""
        assert self._item is not None
        prefix = event["type"].rpartition(".")[0]
        if self._part is None:
            kinds = {"response.function_call_arguments": "function_call"}
            assert kinds[prefix] == self._item["type"]
            return
        parts = {
            "response.output_text": "output_text",
            "response.reasoning_text": "reasoning_text",
            "response.reasoning_summary_text": "summary_text",
        }
        assert parts[prefix] == self._part["type"]
        index = "summary_index" if "summary" in prefix else "content_index"
        assert event[index] == len(self._parts)
