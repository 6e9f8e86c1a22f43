"""Threads for work that would block the event loop; long work holds up no short work."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from mlxnode.errors import panics_caught

Result = TypeVar("Result")

LARGE_TEXT = 20_000  # characters; a longer text would block the event loop
_LONG_TEXT = 1_000_000  # takes about a second of a processor
# One processor is left for the event loop and for short work.
_long = ThreadPoolExecutor(max(1, min(2, (os.cpu_count() or 1) - 1)), "long-work")


async def off_loop(size: int, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``, whose work is that of a text of ``size`` characters.

    A small one is done at once, a large one in a thread, a long one after others like it.
    """
    function = panics_caught()(function)  # of a tokenizer, by the work of its patterns
    if size <= LARGE_TEXT:
        return function(*args)
    if size <= _LONG_TEXT:
        return await asyncio.to_thread(function, *args)
    return await asyncio.get_running_loop().run_in_executor(_long, function, *args)


async def in_lane(
    threads: Executor, size: int, function: Callable[..., Result], *args: Any
) -> Result:
    """As ``off_loop``, for work that may wait: ``threads`` do all that is not long."""
    lane = threads if size <= _LONG_TEXT else _long
    function = panics_caught()(function)
    return await asyncio.get_running_loop().run_in_executor(lane, function, *args)


async def off_loop_if(large: bool, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``; in a thread if it would block the event loop."""
    function = panics_caught()(function)
    return await asyncio.to_thread(function, *args) if large else function(*args)
