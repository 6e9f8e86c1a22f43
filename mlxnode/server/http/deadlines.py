"""The time limits of one connection, which no client can put off byte by byte."""

from dataclasses import dataclass
from typing import Literal

from sanic.http import Stage

Late = Literal["idle", "head", "write"]


@dataclass
class Deadlines:
    """Seconds: ``idle`` between requests, for a ``head``, and without progress of a ``write``.

    The limit of a body is in ``timed_request``. A limit of the server's own work is not here:
    the first token of a long prompt may take minutes.
    """

    idle: float
    head: float
    write: float
    _phase: tuple[Stage, int] | None = None
    _since: float = 0.0
    _taken: int = 0
    _taken_at: float = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two checks: a limit is exceeded by no more than two of them."""
        return min(max(min(self.idle, self.head, self.write) / 8, 0.05), 5.0)

    def exceeded(
        self, now: float, stage: Stage, num_heads: int, written: int, waiting: int
    ) -> Late | None:
        """The limit that is exceeded at the time ``now``.

        ``num_heads`` complete heads have arrived on the connection. Of all bytes that were
        ``written``, those ``waiting`` have not been taken by the client's system.
        """
        if self._phase != (stage, num_heads):
            self._phase, self._since = (stage, num_heads), now
        taken = written - waiting
        if not waiting or taken != self._taken:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at > self.write:
            return "write"
        if stage is Stage.IDLE and waiting:
            self._since = now  # the client still reads the last answer
        seconds = now - self._since
        if stage is Stage.IDLE and seconds > self.idle:
            return "idle"
        return "head" if stage is Stage.REQUEST and seconds > self.head else None
