"""Where templates read contents and reasoning: in strings, in parts, in other fields."""

import enum
from typing import Any

from mlxnode.server.prompt.conversation import Message


class Thoughts(enum.Enum):
    """Where a template reads the reasoning of an earlier answer."""

    FIELD = enum.auto()  # reasoning_content, which transformers gives more names
    REASONING = enum.auto()  # the field of that name (Solar)
    PARTS = enum.auto()  # a part of the content (Mistral)


def with_thoughts(message: Message, form: Thoughts) -> Message:
    """``message`` with its reasoning where the template reads it."""
    thought = message.get("reasoning_content")
    if not thought or form is Thoughts.FIELD or message["role"] != "assistant":
        return message
    if form is Thoughts.REASONING:
        return {**message, "reasoning": thought}
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


def paragraphs(*texts: str) -> str:
    """``texts`` as one; empty ones are left out."""
    return "\n\n".join(text for text in texts if text)
