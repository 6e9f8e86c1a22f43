"""Reads the figures of the engine: what the supervisor reports to whoever asks."""

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.loading import LoadedModels
from mlxnode.engine.memory.device import buffer_cache_limit, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard
from mlxnode.engine.memory.pressure import Stage
from mlxnode.figures import EngineFigures, MemoryFigures, ModelFigures, PressureStage
from mlxnode.footprint import footprint

_STAGES: dict[Stage, PressureStage] = {
    Stage.NORMAL: "normal",
    Stage.CACHES_DROPPED: "caches dropped",
    Stage.ADMISSION_PAUSED: "admission paused",
    Stage.ABORTING: "aborting",
}


class FiguresReader:
    """The figures of a loaded engine. ``wired`` is the limit of wired memory in bytes."""

    def __init__(
        self,
        config: EngineConfig,
        loaded: LoadedModels,
        budget: MemoryBudget,
        guard: MemoryGuard,
        wired: int,
    ):
        self._limits = memory_limit(config), buffer_cache_limit(config)
        self._loaded = loaded
        self._budget = budget
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
                wired_limit=self._wired,
                footprint=footprint(),
                kv_total=self._budget.total,
                kv_claimed=self._budget.claimed,
                pressure=_STAGES[self._guard.stage],
            ),
            models=[
                ModelFigures(
                    id=id, weight_bytes=self._loaded.weights[id], work=runner.figures()
                )
                for id, runner in self._loaded.runners.items()
            ],
        )
