"""Reads the figures of the engine: what the supervisor reports to whoever asks."""

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory.device import buffer_cache_limit, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard
from mlxnode.engine.memory.pressure import Stage
from mlxnode.engine.memory.wired import WiredWeights
from mlxnode.engine.residency.residency import Residency
from mlxnode.figures import EngineFigures, MemoryFigures, PressureStage
from mlxnode.footprint import footprint

_STAGES: dict[Stage, PressureStage] = {
    Stage.NORMAL: "normal",
    Stage.CACHES_DROPPED: "caches dropped",
    Stage.ADMISSION_PAUSED: "admission paused",
    Stage.ABORTING: "aborting",
}


class FiguresReader:
    """The figures of an engine that has started."""

    def __init__(
        self,
        config: EngineConfig,
        residency: Residency,
        guard: MemoryGuard,
        wired: WiredWeights,
    ):
        self._limits = memory_limit(config), buffer_cache_limit(config)
        self._residency = residency
        self._budget = residency.memory.budget
        self._guard = guard
        self._wired = wired

    def read(self) -> EngineFigures:
        """Takes some microseconds, and waits for no computation."""
        limit, cache_limit = self._limits
        active = mx.get_active_memory()
        return EngineFigures(
            memory=MemoryFigures(
                limit=limit,
                active=active,
                peak=max(mx.get_peak_memory(), active),
                buffer_cache=mx.get_cache_memory(),
                buffer_cache_limit=cache_limit,
                wired_limit=self._wired.size,
                footprint=footprint(),
                kv_total=self._budget.total,
                kv_claimed=self._budget.claimed,
                pressure=_STAGES[self._guard.stage],
            ),
            models=self._residency.figures(),
        )
