"""Calls that all ranks of a distributed engine make, in the same order.

Rank 0 decides everything: who is admitted, what is computed next, which prefix is evicted.
What it does to a model and to KV caches goes through functions that are ``mirrored``: the
other ranks make the same calls with their part of the model and of the caches
(``engine/ranks``). So they know no requests, no clock and no memory budget, and cannot decide
otherwise.

On one machine, a mirrored function is the function itself. Imports nothing of the engine.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Mirrored:
    """An object of which each rank has its part: the caches of a sequence, a batch of rows."""


class Mirror(Protocol):
    """Rank 0's way to the other ranks (``ranks/leader.py``)."""

    def call(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Make a call on all ranks, if it has to do with a model that they share."""

    def flush(self) -> None:
        """Tell the other ranks what they can release."""


FUNCTIONS: dict[str, Callable[..., Any]] = {}  # by the name that travels
_mirror: Mirror | None = None  # None: one machine, or a rank that follows


def mirrored(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function that all ranks call, if one of its arguments belongs to a shared model.

    Arguments are plain values, lists of them, models, ``Mirrored`` objects and arrays. The
    other ranks get the values of an array from rank 0. An array that is returned stays on its
    rank. A function has to evaluate the same parts of a model's graph on each rank: ranks that
    do not meet in a collective wait for ever.
    """
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
    FUNCTIONS[name] = function

    @functools.wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        if _mirror is None:
            return function(*arguments, **options)
        return _mirror.call(name, function, arguments, options)

    return call


def install(mirror: Mirror | None) -> None:
    """Mirror all calls of this process from now on; None: no longer."""
    global _mirror
    _mirror = mirror


def flush() -> None:
    """Tell the other ranks what they can release, if there are any."""
    if _mirror is not None:
        _mirror.flush()
