"""The longest slice of the event loop in a real worker, in CPU time of its thread.

CPU time, not time on the clock: other programs on the machine do not count.
"""

import functools
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

_TICK = 0.002  # seconds between two measurements


class LoopSlices:
    """``run`` is what ``started_worker`` takes to measure its worker."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._longest = context.Value("d", 0.0)

    @property
    def run(self) -> Callable[..., None]:
        return functools.partial(_run_measured, self._longest)

    @property
    def longest(self) -> float:
        """The most seconds between two ticks since ``forget``: at least one whole slice."""
        return self._longest.value

    def forget(self) -> None:
        self._longest.value = 0.0


def _run_measured(longest: Any, *arguments: Any) -> None:
    # Imported here: in the worker's process.
    import uvloop

    from mlxnode.server.worker import run_worker

    new_event_loop = uvloop.new_event_loop

    def measured_loop() -> Any:
        loop = new_event_loop()
        loop.call_soon(_tick, loop, longest, time.thread_time())
        return loop

    uvloop.new_event_loop = measured_loop
    run_worker(*arguments)


def _tick(loop: Any, longest: Any, last: float) -> None:
    now = time.thread_time()
    with longest.get_lock():
        longest.value = max(longest.value, now - last)
    loop.call_later(_TICK, _tick, loop, longest, time.thread_time())
