"""Drawing with rich: consoles, and tables that fit the width of the terminal."""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000  # columns, where no terminal has a width: a table is then cut nowhere


class PlainConsole(Console):
    """A console without markup; a closed pipe is the error that it is for ``print``."""

    def on_broken_pipe(self) -> None:
        """Rich would end the process with a code of its own."""
        self.quiet = True
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """The console of standard output, or of standard error.

    It draws no colours where the stream is no terminal, or ``$NO_COLOR`` is set.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNLIMITED
    return PlainConsole(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def draw(drawn: RenderableType) -> None:
    """Print on standard output; without the spaces that fill lines, if it is no terminal."""
    screen = console()
    if screen.is_terminal:
        screen.print(drawn)
        return
    with screen.capture() as capture:
        screen.print(drawn)
    print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n")


class Column(NamedTuple):
    """A column of a table.

    ``is_optional``: it is left out where the terminal is too narrow, the last one first.
    """

    title: str
    is_right: bool = False
    is_optional: bool = False


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], width: int | None = None
) -> Table:
    """A table without lines that fits ``width`` characters; default: the terminal's."""
    cells = [list(row) for row in rows]
    width = width or console().width
    shown = list(range(len(columns)))
    for i in reversed(range(len(columns))):
        if _width(columns, cells, shown) <= width:
            break
        if columns[i].is_optional:
            shown.remove(i)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i in shown:
        column = columns[i]
        drawn.add_column(
            column.title, justify="right" if column.is_right else "left", overflow="fold"
        )
    for row in cells:
        drawn.add_row(*(row[i] for i in shown))
    return drawn


def _width(columns: Sequence[Column], rows: list[list[str | Text]], shown: list[int]) -> int:
    """The characters of a line with the columns ``shown``."""
    widths = [max(len(columns[i].title), *(len(row[i]) for row in rows), 0) for i in shown]
    return sum(widths) + 2 * len(widths)
