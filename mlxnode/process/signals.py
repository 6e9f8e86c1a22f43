"""The signals that end a node: for the supervisor to act on, for its children to ignore."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def catch_signals(put: Callable[[signal.Signals], None]) -> None:
    """Call ``put`` at each signal. A SIGHUP that is ignored, as nohup does, stays ignored."""
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: put(signal.Signals(number)))


def ignore_signals() -> None:
    """In a child: only the supervisor ends its children. A terminal signals all of them."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Hold the signals back. A process that is started here holds them back from its start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def has_terminal() -> bool:
    """True if this process belongs to a terminal, which sends SIGHUP when it is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
