"""The deltas of a chat stream."""

from typing import Any


def joined(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the deltas of a stream add up to."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for delta in deltas:
        message["content"] += delta.get("content") or ""
        message["reasoning_content"] += delta.get("reasoning_content") or ""
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                assert part["index"] == len(message["tool_calls"])
                message["tool_calls"].append({"function": dict(part["function"])})
            else:
                call = message["tool_calls"][part["index"]]["function"]
                call["arguments"] += part["function"]["arguments"]
    return message
