"""Tells the workers when the engine does not answer, long before the engine is replaced."""

import logging
import time
from collections.abc import Sequence

from mlxnode.messages.control import EngineSilent
from mlxnode.process.child import Child
from mlxnode.process.rank_states import RankStates

log = logging.getLogger("mlxnode.supervisor")


class EngineSilence:
    """Whether the engine is silent, as the workers know it.

    A long step is silent, too, so nothing else follows from it than the health of the node.
    """

    def __init__(self, engine: Child, workers: Sequence[Child]):
        self._engine = engine
        self._workers = workers
        self._is_told = False
        self.ranks = RankStates(engine, workers)

    def update(self, now: float) -> None:
        """Tell all workers what has changed."""
        self.ranks.update()
        seconds = self._engine.silence(now)
        if (seconds is not None) == self._is_told:
            return
        self._is_told = seconds is not None
        if seconds is None:
            log.info("the engine answers again, or is replaced")
        else:
            log.warning("the engine has not answered for %.0f s", seconds)
        for worker in self._workers:
            if worker.is_ready:
                worker.send(EngineSilent(seconds))

    def tell(self, worker: Child) -> None:
        """Tell a worker that has just become ready."""
        self.ranks.tell(worker)
        if self._is_told:
            worker.send(EngineSilent(self._engine.silence(time.monotonic())))
