"""Draws an answer while it arrives: as Markdown in a terminal, as plain text elsewhere."""

import time
from typing import TextIO

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.spinner import Spinner
from rich.text import Text

from mlxnode.chat.blocks import cut
from mlxnode.client.answer import Piece
from mlxnode.client.text import printable

_PER_SECOND = 10  # drawings
_FOLDED = 3  # lines of the reasoning that are seen while it grows
_NEW_LINE = Segment.line()
_MOST_DRAWN = 6000  # characters of a block that is drawn as Markdown while it grows


class PlainView:
    """Writes the text as it comes. The reasoning is written only if it is to be shown."""

    def __init__(self, output: TextIO, *, shows_reasoning: bool = False):
        self._output = output
        self._shows_reasoning = shows_reasoning
        self._last: Piece | None = None

    def __enter__(self) -> "PlainView":
        self._last = None
        return self

    def add(self, piece: Piece) -> None:
        """Write a piece."""
        if piece.kind == "reasoning" and not self._shows_reasoning:
            return
        if self._last is None and piece.kind == "reasoning":
            self._write("Reasoning:\n")
        if self._last is not None and self._last.kind != piece.kind:
            self._write("\n\nAnswer:\n" if piece.kind == "content" else "\n\nReasoning:\n")
        self._write(piece.text)
        self._last = piece

    def __exit__(self, *_: object) -> None:
        if self._last is not None and not self._last.text.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        self._output.write(printable(text))
        self._output.flush()


class MarkdownView:
    """Draws each block as Markdown once it is complete, and the rest while it grows.

    The reasoning is dim: its last lines while it grows, then one line, or all of it.
    """

    def __init__(self, console: Console, *, shows_reasoning: bool = False):
        self._console = console
        self._shows_reasoning = shows_reasoning
        self._begin()

    def _begin(self) -> None:
        self._pending = ""
        self._reasoning = ""
        self._reasoning_since: float | None = None
        self._num_blocks = 0
        self._waiting: ConsoleRenderable = Spinner("dots", style="dim")

    def __enter__(self) -> "MarkdownView":
        self._begin()
        self._live = Live(
            console=self._console,
            get_renderable=self._growing,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        rest, self._pending = self._pending, ""
        self._waiting = Text()
        self._end_reasoning()
        self._print_block(rest)
        self._live.__exit__(None, None, None)

    def add(self, piece: Piece) -> None:
        """Take a piece; it is drawn at once or a little later."""
        text = printable(piece.text)
        if piece.kind == "reasoning":
            self._reasoning_since = self._reasoning_since or time.monotonic()
            self._reasoning += text
            return
        self._end_reasoning()
        self._pending += text
        if "\n" in text and (end := cut(self._pending)):
            block, self._pending = self._pending[:end], self._pending[end:]
            self._print_block(block)

    def _end_reasoning(self) -> None:
        if self._reasoning_since is None:
            return
        seconds = time.monotonic() - self._reasoning_since
        text, self._reasoning, self._reasoning_since = self._reasoning, "", None
        if self._shows_reasoning:
            self._console.print(Text(f"{text.strip()}\n", style="dim"))
        self._console.print(Text(f"thought for {seconds:.1f} s", style="dim italic"))

    def _print_block(self, block: str) -> None:
        block = block.strip("\n")
        if not block.strip():
            return
        drawn = _markdown(block)
        self._console.print(Group(Text(), drawn) if self._num_blocks else drawn)
        self._num_blocks += 1

    def _growing(self) -> ConsoleRenderable:
        """What is not printed yet, as much of its end as the terminal has lines for."""
        pending, reasoning = self._pending, self._reasoning
        if reasoning:
            lines = None if self._shows_reasoning else _FOLDED
            return self._tail(Text(reasoning[-_MOST_DRAWN:].strip(), style="dim"), lines)
        if not pending.strip():
            return self._waiting
        if len(pending) > _MOST_DRAWN:
            return self._tail(Text(pending[-_MOST_DRAWN:]))
        drawn = _markdown(pending)
        return self._tail(Group(Text(), drawn) if self._num_blocks else drawn)

    def _tail(self, drawn: ConsoleRenderable, most: int | None = None) -> ConsoleRenderable:
        most = most or max(self._console.height - 2, 1)
        lines = self._console.render_lines(drawn, pad=False)[-most:]
        segments = [segment for line in lines for segment in [*line, _NEW_LINE]]
        return Segments(segments[:-1])


def _markdown(text: str) -> Markdown:
    # Without hyperlinks: a model could hide where a link goes.
    return Markdown(text, code_theme="ansi_dark", hyperlinks=False)
