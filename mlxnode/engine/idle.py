"""What the engine does when it has had no work for a while."""

import time
from collections.abc import Callable

# After this many seconds without work, the engine releases the memory of finished requests and
# writes prefixes to disk.
IDLE_AFTER = 2.0


class IdleTime:
    """When the idle work is due, and whether it is done."""

    def __init__(self, release: Callable[[], None], do_task: Callable[[], bool]):
        """``do_task`` does one task; False if there was none."""
        self._release = release
        self._do_task = do_task
        self._since = time.monotonic()
        self._is_done = False

    def begin(self) -> None:
        """There is no work from now on."""
        self._since, self._is_done = time.monotonic(), False

    @property
    def seconds_to_work(self) -> float | None:
        """Until the idle work is due; None: it is done."""
        return None if self._is_done else max(self._since + IDLE_AFTER - time.monotonic(), 0.0)

    def work(self) -> None:
        """Do a part of what is due."""
        if self.seconds_to_work == 0.0:
            self._release()
            self._is_done = not self._do_task()
