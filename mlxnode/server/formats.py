"""How generated text is written for a client: whole, and as the chunks of a stream."""

import hashlib
import time
import uuid
from typing import Protocol

import msgspec
from msgspec import UNSET

import mlxnode
from mlxnode.models.served import ServedModel
from mlxnode.server.generation import Delta
from mlxnode.server.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    TextChoice,
    TextCompletion,
    Usage,
)


class Format(Protocol):
    """The bodies of one endpoint; one object a request, so that id and time stay the same."""

    def whole(self, deltas: list[Delta], usage: Usage) -> msgspec.Struct: ...

    def opening(self) -> list[msgspec.Struct]:
        """The chunks that come before any text."""
        ...

    def chunks(self, delta: Delta) -> list[msgspec.Struct]: ...

    def closing(self, usage: Usage) -> list[msgspec.Struct]:
        """The chunks that come after the last choice has ended."""
        ...


class _Identity:
    """What all bodies of one request share."""

    def __init__(self, served: ServedModel, prefix: str, include_usage: bool):
        self._shared = {
            "id": f"{prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.id,
            "system_fingerprint": _fingerprint(served),
        }
        self._include_usage = include_usage
        # With include_usage, every chunk but the last says that it has none.
        self._no_usage = None if include_usage else UNSET


class ChatFormat(_Identity):
    """Bodies of ``/v1/chat/completions``."""

    def __init__(self, served: ServedModel, *, include_usage: bool):
        super().__init__(served, "chatcmpl-", include_usage)

    def whole(self, deltas: list[Delta], usage: Usage) -> ChatCompletion:
        choices = [
            ChatChoice(delta.index, ChatMessage(delta.text), delta.finish_reason)
            for delta in deltas
        ]
        return ChatCompletion(**self._shared, choices=choices, usage=usage)

    def opening(self) -> list[ChatChunk]:
        return [self._chunk(0, ChatDelta(role="assistant", content="", refusal=None))]

    def chunks(self, delta: Delta) -> list[ChatChunk]:
        chunks = []
        if delta.text:
            chunks.append(self._chunk(delta.index, ChatDelta(content=delta.text)))
        if delta.finish_reason:
            chunks.append(self._chunk(delta.index, ChatDelta(), delta.finish_reason))
        return chunks

    def closing(self, usage: Usage) -> list[ChatChunk]:
        if not self._include_usage:
            return []
        return [ChatChunk(**self._shared, choices=[], usage=usage)]

    def _chunk(
        self, index: int, delta: ChatDelta, finish_reason: str | None = None
    ) -> ChatChunk:
        choice = ChatChunkChoice(index, delta, finish_reason)
        return ChatChunk(**self._shared, choices=[choice], usage=self._no_usage)


class TextFormat(_Identity):
    """Bodies of ``/v1/completions``."""

    def __init__(self, served: ServedModel, *, include_usage: bool):
        super().__init__(served, "cmpl-", include_usage)

    def whole(self, deltas: list[Delta], usage: Usage) -> TextCompletion:
        choices = [TextChoice(delta.index, delta.text, delta.finish_reason) for delta in deltas]
        return TextCompletion(**self._shared, choices=choices, usage=usage)

    def opening(self) -> list[TextCompletion]:
        return []

    def chunks(self, delta: Delta) -> list[TextCompletion]:
        choice = TextChoice(delta.index, delta.text, delta.finish_reason)
        return [TextCompletion(**self._shared, choices=[choice], usage=self._no_usage)]

    def closing(self, usage: Usage) -> list[TextCompletion]:
        if not self._include_usage:
            return []
        return [TextCompletion(**self._shared, choices=[], usage=usage)]


def _fingerprint(served: ServedModel) -> str:
    """Changes when what answers changes: this program or the model's weights."""
    facts = f"{mlxnode.__version__} {served.id} {served.created} {served.size_bytes}"
    return f"fp_{hashlib.sha256(facts.encode()).hexdigest()[:10]}"
