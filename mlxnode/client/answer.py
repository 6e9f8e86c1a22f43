"""An answer of a chat model while it grows."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Piece(NamedTuple):
    """A part of an answer, in the order of the model."""

    kind: Literal["reasoning", "content"]
    text: str


@dataclass
class Answer:
    """What has arrived of an answer. Times in seconds.

    ``finish_reason`` is None while it grows, and stays None if it was stopped.
    """

    content: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    model: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    first_token: float | None = None
    seconds: float = 0.0
    num_pieces: int = 0
    started_at: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """The request is sent now."""
        self.started_at = time.perf_counter()

    def read(self, events: Iterable[dict[str, Any]]) -> Iterator[Piece]:
        """Grow by the chunks of a chat completion; yields each piece once it is added.

        The time runs since ``start``, or since the answer was made.
        """
        for event in events:
            self.seconds = time.perf_counter() - self.started_at
            self.model = self.model or _text(event.get("model"))
            if isinstance(usage := event.get("usage"), dict):
                self.usage = usage
            for piece in self._pieces(event):
                if self.first_token is None:
                    self.first_token = self.seconds
                self.num_pieces += 1
                yield piece
        self.seconds = time.perf_counter() - self.started_at

    def _pieces(self, event: dict[str, Any]) -> Iterator[Piece]:
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        if text := _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")):
            self.reasoning += text
            yield Piece("reasoning", text)
        if text := _text(delta.get("content")):
            self.content += text
            yield Piece("content", text)

    @property
    def num_tokens(self) -> int:
        """Generated tokens, as the server counts them; else the pieces of a stopped answer."""
        count = self.usage.get("completion_tokens")
        return count if isinstance(count, int) else self.num_pieces

    @property
    def tokens_per_second(self) -> float | None:
        """After the first token; None if there was no second one."""
        if self.first_token is None or self.num_tokens < 2:
            return None
        return (self.num_tokens - 1) / max(self.seconds - self.first_token, 1e-6)

    def as_document(self) -> dict[str, Any]:
        """The answer as one JSON document."""
        return {
            "model": self.model,
            "content": self.content,
            "reasoning": self.reasoning or None,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "first_token_seconds": self.first_token,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
        }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
