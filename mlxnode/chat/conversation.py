"""A conversation of a user and a model."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant"]


class Message(msgspec.Struct):
    """One message. ``is_stopped``: the user stopped the answer, or it broke off."""

    role: Role
    content: str
    is_stopped: bool = False


class Conversation(msgspec.Struct):
    """The messages in their order, and the system message before them; "": there is none."""

    system: str = ""
    messages: list[Message] = msgspec.field(default_factory=list)

    def body(self, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a chat request for the next answer."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        rest = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"model": model, "messages": [*first, *rest], **settings}

    def ask(self, text: str) -> None:
        """Add what the user says."""
        self.messages.append(Message("user", text))

    def answer(self, text: str, *, is_stopped: bool = False) -> None:
        """Add what the model says."""
        self.messages.append(Message("assistant", text, is_stopped))

    def take_back(self) -> str | None:
        """Remove the last question and its answer; returns the question, if there is one."""
        while self.messages:
            removed = self.messages.pop()
            if removed.role == "user":
                return removed.content
        return None

    def clear(self) -> None:
        """Remove the messages; the system message stays."""
        self.messages.clear()
