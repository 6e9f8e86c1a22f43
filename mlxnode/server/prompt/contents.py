"""Contents as lists of parts, for templates that want them."""

from typing import Any

from mlxnode.server.prompt.conversation import Message


def in_thought_parts(message: Message) -> Message:
    """``message`` with its thoughts as a part of its content, as Mistral's templates want."""
    thought = message.get("reasoning_content")
    if not thought or message["role"] != "assistant":
        return message
    parts: Any = [{"type": "thinking", "thinking": thought}]
    if message["content"]:
        parts.append({"type": "text", "text": message["content"]})
    return {**message, "content": parts}


def in_parts(message: Message) -> Message:
    """``message`` with a content that is a list of parts."""
    if not isinstance(message["content"], str):
        return message
    parts: Any = [{"type": "text", "text": message["content"]}]
    return {**message, "content": parts}
