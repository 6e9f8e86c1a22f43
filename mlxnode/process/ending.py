"""Ends the children in order: the workers once their requests have ended, then the engine."""

import logging
import time
from collections.abc import Sequence

from mlxnode.config.tables import ServerConfig
from mlxnode.messages.control import Drain, Stop
from mlxnode.process.child import Child

log = logging.getLogger("mlxnode.supervisor")

DRAIN_GRACE = 3.0  # seconds beyond the time of the drain before a worker is killed
STOP_GRACE = 3.0  # seconds for the engine to end


class Ending:
    """The end of a node, once it has begun."""

    def __init__(self, engine: Child, workers: Sequence[Child], server: ServerConfig):
        self._engine = engine
        self._workers = workers
        self._drain = Drain(server.drain_timeout, server.drain_delay)
        self._deadline: float | None = None  # of the workers, or of the engine
        self.has_begun = False

    def begin(self) -> None:
        """Let running requests end; nobody is started again."""
        self.has_begun = True
        longest = self._drain.delay + self._drain.timeout + DRAIN_GRACE
        self._deadline = time.monotonic() + longest
        for child in (self._engine, *self._workers):
            child.restart_at = None
        for worker in self._workers:
            worker.send(self._drain if worker.is_ready else Stop())

    def go_on(self) -> bool:
        """End the engine once no worker runs; True if nobody runs."""
        if any(worker.is_alive for worker in self._workers):
            return False
        if not self._engine.is_alive:
            return True
        self._engine.send(Stop())
        self._deadline = time.monotonic() + STOP_GRACE
        return False

    def update(self, now: float) -> None:
        """Kill who has not ended in time."""
        if self._deadline is None or now <= self._deadline:
            return
        late = [child for child in self._workers if child.is_alive] or [self._engine]
        for child in late:
            log.warning("%s did not end in time; killing it", child.name)
            child.kill()
        self._deadline = now + STOP_GRACE
