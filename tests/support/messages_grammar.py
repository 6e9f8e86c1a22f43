"""The grammar of Anthropic's streams, written from the published description of its events.

A stream is: ``message_start`` with an empty message; content blocks, one after the other, each
with ``content_block_start``, deltas of its own type and ``content_block_stop``; one
``message_delta`` with reason and counts; ``message_stop``. ``ping`` may stand anywhere. An
``error`` ends a stream at any place after the start. The name of each event is its type.
"""

from typing import Any

# Each type of block: its fields at the start, and the deltas that it may have.
_BLOCKS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "text": ({"text": ""}, {"text_delta"}),
    "thinking": (
        {"thinking": "", "signature": ""},
        {"thinking_delta", "signature_delta"},
    ),
    "tool_use": ({"input": {}}, {"input_json_delta"}),
}
_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
_REASONS = {"end_turn", "max_tokens", "stop_sequence", "tool_use"}
_COUNTS = {
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
}
_ERRORS = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
}


class MessageStream:
    """Reads the events of one stream; raises AssertionError for what may not come.

    Afterwards, ``message`` is the answer that the stream has told, and ``error`` its error.
    """

    def __init__(self):
        self.message: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.num_pings = 0
        self._open: dict[str, Any] | None = None
        self._json: list[str] = []
        self._has_delta = self._is_over = False

    def read(self, events: list[dict[str, Any]]) -> "MessageStream":
        for event in events:
            name = event["type"]
            assert not self._is_over, f"{name} after the end"
            getattr(self, f"_on_{name}")(event)
        assert self._is_over, "the stream has no end"
        return self

    def _on_ping(self, data: dict[str, Any]) -> None:
        assert data == {"type": "ping"}
        self.num_pings += 1

    def _on_error(self, data: dict[str, Any]) -> None:
        assert data["error"]["type"] in _ERRORS and data["error"]["message"]
        assert data["request_id"].startswith("req_")
        self.error = data["error"]
        self._is_over = True

    def _on_message_start(self, data: dict[str, Any]) -> None:
        assert self.message is None, "a second start"
        message = data["message"]
        assert message["type"] == "message" and message["role"] == "assistant"
        assert message["id"].startswith("msg_") and message["model"]
        assert message["content"] == []
        assert message["stop_reason"] is None and message["stop_sequence"] is None
        _check_counts(message["usage"])
        self.message = message

    def _on_content_block_start(self, data: dict[str, Any]) -> None:
        assert self.message is not None and self._open is None and not self._has_delta
        assert data["index"] == len(self.message["content"])
        block = data["content_block"]
        empty, _ = _BLOCKS[block["type"]]
        assert {name: block[name] for name in empty} == empty
        if block["type"] == "tool_use":
            assert block["id"] and block["name"]
        self.message["content"].append(block)
        self._open, self._json = block, []

    def _on_content_block_delta(self, data: dict[str, Any]) -> None:
        block, delta = self._current(data), data["delta"]
        _, allowed = _BLOCKS[block["type"]]
        assert delta["type"] in allowed, f"{delta['type']} in a block of {block['type']}"
        text = delta[_DELTA_FIELDS[delta["type"]]]
        assert isinstance(text, str) and set(delta) == {"type", _DELTA_FIELDS[delta["type"]]}
        if delta["type"] == "input_json_delta":
            self._json.append(text)
        elif delta["type"] == "signature_delta":
            assert block["signature"] == "" and text
            block["signature"] = text
        else:
            assert text, "a delta without text"
            assert not block.get("signature"), "thoughts after their signature"
            block[_DELTA_FIELDS[delta["type"]]] += text

    def _on_content_block_stop(self, data: dict[str, Any]) -> None:
        block = self._current(data)
        if block["type"] == "thinking":
            assert block["signature"], "thoughts without a signature"
        if block["type"] == "tool_use":
            block["input"] = "".join(self._json)  # JSON, or what was cut of it
        self._open = None

    def _on_message_delta(self, data: dict[str, Any]) -> None:
        assert self.message is not None and self._open is None and not self._has_delta
        reason, sequence = data["delta"]["stop_reason"], data["delta"]["stop_sequence"]
        assert reason in _REASONS
        assert (sequence is not None) == (reason == "stop_sequence")
        before, after = self.message["usage"], data["usage"]
        _check_counts(after)
        assert after["output_tokens"] >= before["output_tokens"], "counts are cumulative"
        self.message |= data["delta"] | {"usage": after}
        self._has_delta = True

    def _on_message_stop(self, data: dict[str, Any]) -> None:
        assert data == {"type": "message_stop"} and self._has_delta
        self._is_over = True

    def _current(self, data: dict[str, Any]) -> dict[str, Any]:
        assert self.message is not None and self._open is not None, "no block is open"
        assert data["index"] == len(self.message["content"]) - 1
        return self._open


def _check_counts(usage: dict[str, Any]) -> None:
    assert set(usage) >= _COUNTS
    assert all(isinstance(usage[name], int) and usage[name] >= 0 for name in _COUNTS)
