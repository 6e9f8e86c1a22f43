"""The resident memory of another process, watched while something runs."""

import subprocess
import threading
from types import TracebackType

_PERIOD = 0.02  # seconds


def resident_mb(pid: int) -> float:
    """The resident memory of the process ``pid`` in MB."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return int(subprocess.run(command, capture_output=True, text=True).stdout) / 1024


class Resident:
    """Watches a process within a ``with`` block: ``before``, and the highest that was seen."""

    def __init__(self, pid: int):
        self._pid = pid
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "Resident":
        self.before = self.highest = resident_mb(self._pid)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    @property
    def growth(self) -> float:
        """How much more than before was resident at the highest, in MB."""
        return self.highest - self.before

    def _watch(self) -> None:
        while not self._ended.wait(_PERIOD):
            self.highest = max(self.highest, resident_mb(self._pid))
