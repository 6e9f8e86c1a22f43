"""Traces leave out what repeats: they need shapes and no values."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_abridged: ContextVar[bool] = ContextVar("is_abridged", default=False)


@contextmanager
def abridged() -> Iterator[None]:
    """Inside, functions with many equal parts compute the last few parts alone."""
    token = _is_abridged.set(True)
    try:
        yield
    finally:
        _is_abridged.reset(token)


def num_left_out(count: int, kept: int) -> int:
    """How many of ``count`` equal parts, from the first one on, a trace leaves out; else 0."""
    return max(count - kept, 0) if _is_abridged.get() else 0
