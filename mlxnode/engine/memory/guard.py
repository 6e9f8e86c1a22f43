"""Watches the memory of the engine between steps, and lets go of work when it runs short."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import mlx.core as mx

from mlxnode import footprint
from mlxnode.engine.memory.pressure import Pressure, Stage
from mlxnode.engine.work import Output, RequestKey, Youngest, in_units
from mlxnode.messages.data import Failed

log = logging.getLogger("mlxnode.engine")

INTERVAL = 0.02  # seconds between two checks; one takes some microseconds
SYSTEM_INTERVAL = 1.0  # seconds between two questions to the system


class MemoryMeter:
    """The bytes that count against the limit."""

    def __init__(self) -> None:
        """Create it before the models are loaded: the libraries are no part of the limit."""
        self._libraries = footprint.footprint()

    def used(self) -> int:
        """The larger of MLX's buffers, freed ones included, and the growth of the process."""
        buffers = mx.get_active_memory() + mx.get_cache_memory()
        return max(buffers, footprint.footprint() - self._libraries)


class Relieved(Protocol):
    """The requests of one model, which the guard makes smaller."""

    @property
    def youngest(self) -> Youngest | None: ...

    def pause(self, is_paused: bool) -> None: ...

    def drop_caches(self) -> None: ...

    def abort(self, key: RequestKey) -> None: ...


class MemoryGuard:
    """Acts on the stages of ``Pressure`` for all runners.

    ``release`` gives freed memory back to the system.
    """

    def __init__(
        self,
        limit: int,
        used: Callable[[], int],
        release: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        is_system_short: Callable[[], bool] = footprint.is_system_short_of_memory,
    ):
        self._pressure = Pressure(limit)
        self._used = used
        self._release = release
        self._clock = clock
        self._ask_system = is_system_short
        self._is_system_short = False
        self._check_at = self._ask_at = 0.0
        self._highest = Stage.NORMAL  # of this episode

    @property
    def stage(self) -> Stage:
        return self._pressure.stage

    def check(self, runners: Sequence[Relieved]) -> list[Output]:
        """Relieve the memory if that is necessary; returns the errors of aborted requests."""
        now = self._clock()
        if now < self._check_at:
            return []
        self._check_at = now + INTERVAL
        if now >= self._ask_at:
            self._ask_at = now + SYSTEM_INTERVAL
            self._is_system_short = self._ask_system()
        before, used = self.stage, self._used()
        stage = self._pressure.observe(used, now, is_system_short=self._is_system_short)
        if stage is before is Stage.NORMAL:
            return []
        self._log(stage, used)
        for runner in runners:
            runner.pause(stage >= Stage.ADMISSION_PAUSED)
        if stage is Stage.NORMAL:
            return []
        if stage > before or used > self._pressure.limit:
            for runner in runners:
                runner.drop_caches()
            self._release()
        return self._abort_youngest(runners, used) if stage is Stage.ABORTING else []

    def _abort_youngest(self, runners: Sequence[Relieved], used: int) -> list[Output]:
        candidates = [(youngest, runner) for runner in runners if (youngest := runner.youngest)]
        if not candidates:
            return []
        (_, _, key), runner = max(candidates, key=lambda candidate: candidate[0])
        runner.abort(key)
        text = (
            f"the node is short of memory: {in_units(used)} of "
            f"{in_units(self._pressure.limit)} are in use"
        )
        return [Output(key.pipe_id, Failed(key.uid, "overloaded", text))]

    def _log(self, stage: Stage, used: int) -> None:
        """Log each stage once an episode."""
        if stage is Stage.NORMAL:
            log.info("memory: %.2f GB in use, admission as usual again", used / 1e9)
            self._highest = stage
        elif stage > self._highest:
            self._highest = stage
            cause = "the system is short of memory" if self._is_system_short else "in use"
            log.warning(
                "memory: %.2f GB of %.2f GB, %s: %s",
                used / 1e9,
                self._pressure.limit / 1e9,
                cause,
                _ACTIONS[stage],
            )


_ACTIONS = {
    Stage.CACHES_DROPPED: "cached prefixes and freed buffers are dropped",
    Stage.ADMISSION_PAUSED: "waiting requests start one at a time",
    Stage.ABORTING: "the youngest requests are aborted",
}
