"""CPU time that a test measures, in a process that holds thousands of other tests."""

import contextlib
import gc
import time
from collections.abc import Iterator


class CpuTime:
    """``seconds`` is 0 until the measurement ends."""

    seconds = 0.0


@contextlib.contextmanager
def cpu_time() -> Iterator[CpuTime]:
    """Measure the CPU time of this thread in the block.

    Other programs do not count, nor what the process held before: a collection of all that
    takes half a second, at any moment.
    """
    spent = CpuTime()
    gc.freeze()
    started = time.thread_time()
    try:
        yield spent
    finally:
        spent.seconds = time.thread_time() - started
        gc.unfreeze()
