"""What to do when more memory is used than planned: refuse work, so that nothing worse happens.

Metal ends the process when its memory runs out, and nothing catches that; a Mac that is short
of memory may panic. The budget of the KV caches plans for less than the limit. This is the
second line, for what no plan knows: other programs, fragments, a model that needs more than
was measured.
"""

import enum

LOW = 0.95  # of the limit: below, an episode ends at once
CALM = 5.0  # seconds below the limit after which it ends, too: a plan may fill the limit
HIGH = 1.05  # of the limit: above, there is no time to wait for rows to end by themselves
PATIENCE = 1.0  # seconds above the limit with paused admission before a request is aborted


class Stage(enum.IntEnum):
    """How far the ladder was climbed in this episode."""

    NORMAL = 0
    CACHES_DROPPED = 1
    ADMISSION_PAUSED = 2
    ABORTING = 3


class Pressure:
    """Climbs one stage for each observation above the limit, and comes back below it.

    The critical level of the system pauses admission and aborts nothing: another program may
    be the cause.
    """

    def __init__(self, limit: int):
        self.limit = limit  # bytes
        self.stage = Stage.NORMAL
        self._paused_at = 0.0
        self._over_at = 0.0

    def observe(self, used: int, now: float, *, is_system_short: bool = False) -> Stage:
        """Take the bytes in use at the time ``now``, in seconds; returns the stage.

        The stage ``ABORTING`` means: abort one request now.
        """
        is_over = used > self.limit
        if is_over or is_system_short:
            self._over_at = now
            self._climb(used, now, may_abort=is_over)
        elif used < LOW * self.limit or now - self._over_at >= CALM:
            self.stage = Stage.NORMAL
        elif self.stage is Stage.ABORTING:
            self.stage = Stage.ADMISSION_PAUSED
        return self.stage

    def _climb(self, used: int, now: float, *, may_abort: bool) -> None:
        if self.stage < Stage.ADMISSION_PAUSED:
            self.stage = Stage(self.stage + 1)
            self._paused_at = now
        elif not may_abort:
            self.stage = Stage.ADMISSION_PAUSED
        elif used > HIGH * self.limit or now - self._paused_at >= PATIENCE:
            self.stage = Stage.ABORTING
            self._paused_at = now  # the memory of a row comes back a step later
        else:
            self.stage = Stage.ADMISSION_PAUSED
