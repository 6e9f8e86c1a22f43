"""One bar for a download, or two lines where standard error is no terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from mlxnode.cli.output import say

_WIDE = 72  # characters of a terminal with room for the speed and the time


@contextlib.contextmanager
def download_bar(text: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a download of ``total`` bytes; call the result with the bytes that are there.

    ``start`` bytes are there before the download.
    It is called with ``total`` at the end of a download that succeeds.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    from mlxnode.cli.terminal import console

    screen = console(stderr=True)
    if not screen.is_terminal or screen.is_dumb_terminal:
        began = time.monotonic()
        say(f"{text} ({total / 1e6:.0f} MB)")
        there = 0

        def note(size: int) -> None:
            nonlocal there
            there = size

        yield note
        if there >= total:  # else the caller says what went wrong
            say(f"fetched in {time.monotonic() - began:.0f} s")
        return
    # Each column in one line; the last ones only where there is room.
    columns = [
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None),
        DownloadColumn(table_column=Column(no_wrap=True)),
    ]
    if screen.width >= _WIDE:
        columns += [
            TransferSpeedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(elapsed_when_finished=True),
        ]
    with Progress(*columns, console=screen, expand=screen.width < 2 * _WIDE) as bar:
        task = bar.add_task(text, total=total, completed=start)
        yield lambda size: bar.update(task, completed=min(size, total))
