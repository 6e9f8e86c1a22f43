"""One question to the model: its answer, drawn while it arrives, and what came of it."""

import contextlib
from typing import Any, Protocol

from mlxnode.client.answer import Answer, Piece
from mlxnode.client.requests import Client


class View(Protocol):
    """Draws one answer, from the begin of the block to its end."""

    def __enter__(self) -> "View": ...
    def __exit__(self, *_: object) -> None: ...
    def add(self, piece: Piece) -> None:
        """Draw a piece."""
        ...


def ask(client: Client, body: dict[str, Any], answer: Answer, view: View) -> None:
    """Let ``answer`` grow and draw it. An exception ends the request at the server, too.

    Raises:
        RequestError: the server refuses, fails, or goes away in the middle.
        KeyboardInterrupt: the user has stopped the answer.
    """
    with view, contextlib.closing(client.stream_chat(body, answer)) as pieces:
        for piece in pieces:
            view.add(piece)


def measured(answer: Answer) -> str:
    """How fast the answer came, on one line."""
    parts = [f"{answer.num_tokens} tokens"]
    if (rate := answer.tokens_per_second) is not None:
        parts.append(f"{rate:.1f} tokens/s")
    if answer.first_token is not None:
        parts.append(f"first token after {answer.first_token:.2f} s")
    prompt = answer.usage.get("prompt_tokens")
    if isinstance(prompt, int):
        details = answer.usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        parts.append(f"prompt of {prompt} tokens" + (f", {cached} cached" if cached else ""))
    return ", ".join(parts)
