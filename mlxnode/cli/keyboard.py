"""Single keys of the terminal, read without enter."""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def pressed_keys() -> Iterator[Callable[[float], str]]:
    """Call the result to wait for a key for some seconds; "" if none was pressed.

    Where standard input is no terminal, no key comes. At the end the terminal is as before,
    also if a signal ends the process.
    """
    if not sys.stdin.isatty():
        yield _wait_without_keys
        return
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    old = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(stdin, termios.TCSADRAIN)
        yield lambda seconds: _read_key(stdin, seconds)
    finally:
        with contextlib.suppress(termios.error):  # the terminal may be closed
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        for number, handler in old.items():
            signal.signal(number, handler)


def _read_key(stdin: int, seconds: float) -> str:
    readable, _, _ = select.select([stdin], [], [], seconds)
    if not readable:
        return ""
    data = os.read(stdin, 64)
    return data.decode(errors="replace") if data else "\x04"  # the terminal is gone


def _wait_without_keys(seconds: float) -> str:
    select.select([], [], [], seconds)
    return ""
