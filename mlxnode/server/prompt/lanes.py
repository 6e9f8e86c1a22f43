"""Work that would block the event loop is done in threads.

Long work holds up no short work, and the work of one client not that of others.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from mlxnode.errors import panics_caught
from mlxnode.fair_threads import FairThreads

Result = TypeVar("Result")

LARGE_TEXT = 20_000  # characters; a longer text would block the event loop
_SHORT_TEXT = 100_000
_LONG_TEXT = 1_000_000  # takes about a second of a processor
_NUM_CPUS = os.cpu_count() or 1
_usual = FairThreads("text", max(1, _NUM_CPUS // 2), small=_SHORT_TEXT)
# One processor is left for the event loop and for short work.
_long = FairThreads("long-text", max(1, min(2, _NUM_CPUS - 1)))


async def off_loop(size: int, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``, whose work is that of a text of ``size`` characters.

    A small one is done at once, a large one in a thread, a long one after others like it.
    """
    if size <= LARGE_TEXT:
        return _caught(function)(*args)
    return await in_lane(_usual, size, function, *args)


async def in_lane(
    threads: FairThreads, size: int, function: Callable[..., Result], *args: Any
) -> Result:
    """As ``off_loop``, for work that may wait: ``threads`` do all that is not long."""
    call = functools.partial(_caught(function), *args)
    return await (threads if size <= _LONG_TEXT else _long).run(call, size=size)


async def off_loop_if(large: bool, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``; in a thread if it would block the event loop."""
    return await off_loop(LARGE_TEXT + 1 if large else 0, function, *args)


def _caught(function: Callable[..., Result]) -> Callable[..., Result]:
    return panics_caught()(function)  # of a tokenizer, by the work of its patterns
