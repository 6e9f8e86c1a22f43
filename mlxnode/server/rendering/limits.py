"""The bounds of one rendering of a chat template, and what is raised beyond them."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one rendering may use.

    ``cpu_seconds`` are seconds of the processor, so that a busy machine changes nothing.
    ``seconds`` are of the clock: a process that was stopped from outside uses no processor.
    """

    cpu_seconds: float = 5.0  # a conversation of 1 MB takes less than 0.1
    seconds: float = 60.0
    memory_bytes: int = 1 << 30  # of the process; a conversation of 1 MB takes it to 40 MB
    characters: int = 1 << 26  # of the text


class Budget:
    """The seconds of the processor that several renderings may take together."""

    def __init__(self, cpu_seconds: float):
        self.left = cpu_seconds


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def current_budget() -> Budget | None:
    """That of the ``budgeted`` block that the caller is in."""
    return _budget.get()


@contextlib.contextmanager
def budgeted(cpu_seconds: float) -> Iterator[None]:
    """In the block, a template is tried out: its renderings share ``cpu_seconds``."""
    token = _budget.set(Budget(cpu_seconds))
    try:
        yield
    finally:
        _budget.reset(token)


class RenderLimit(Exception):
    """A rendering has exceeded a bound; the message says which, after "the chat template"."""


class RenderError(Exception):
    """The template has raised an error; the message is that error's."""
