"""Threads for work that would block the event loop; long work holds up no short work."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

LARGE_TEXT = 20_000  # characters; a longer text would block the event loop
_LONG_TEXT = 1_000_000  # takes about a second of a processor
# One processor is left for the event loop and for short work.
_long = ThreadPoolExecutor(max(1, min(2, (os.cpu_count() or 1) - 1)), "long-work")


async def off_loop(size: int, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``, whose work is that of a text of ``size`` characters.

    A small one is done at once, a large one in a thread, a long one after others like it.
    """
    if size <= LARGE_TEXT:
        return function(*args)
    if size <= _LONG_TEXT:
        return await asyncio.to_thread(function, *args)
    return await asyncio.get_running_loop().run_in_executor(_long, function, *args)


async def off_loop_if(large: bool, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``; in a thread if it would block the event loop."""
    return await asyncio.to_thread(function, *args) if large else function(*args)
