"""Pings the children, and kills those that are silent for too long."""

import logging
import time
from collections.abc import Sequence

from mlxnode.messages.control import Ping
from mlxnode.process.child import Child

log = logging.getLogger("mlxnode.supervisor")

LATE = 1.0  # seconds between two looks, above which the supervisor itself did not run


class Liveness:
    """Whether the children answer."""

    def __init__(self, children: Sequence[Child], hang_timeout: float):
        self._children = children
        self._hang_timeout = hang_timeout
        self._looked_at = time.monotonic()

    def update(self, now: float) -> None:
        """Look at all children; the supervisor's loop does so several times a second."""
        if now - self._looked_at > LATE:  # stopped by ctrl-Z, say, and its children too
            for child in self._children:
                child.mark_heard()
        self._looked_at = now
        for child in self._children:
            if child.is_ping_due(now):
                child.send(Ping(child.incarnation))
            if child.is_hung(now, self._hang_timeout):
                log.warning("%s does not answer; killing it", child.name)
                child.kill()
