"""Wired memory: the weights stay in physical memory, where the system cannot page them out.

MLX wires nothing unless it is told to. mlx-lm wires up to the recommended maximum while it
generates; reports of kernel panics name that maximum together with growing caches. So at most
the weights are wired here, once for all models that are loaded, and caches never are.
"""

import logging

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory.device import recommended_memory

log = logging.getLogger("mlxnode.engine")

_MAX_SHARE = 0.9  # of the recommended maximum
# Below this share of the recommended maximum, the weights are less than about half of the
# physical memory, and the system has no reason to page them out. mlx-lm warns of slow decoding
# from 0.9 on, for the weights alone; a node also has KV caches.
_HELPS_FROM = 0.75


def wired_bytes(weights: int, recommended: int) -> int:
    """The bytes to wire for ``weights`` bytes of weights."""
    return min(weights, int(_MAX_SHARE * recommended))


def would_help(weights: int, recommended: int) -> bool:
    """True if the weights are so near the size of the memory that wiring may help."""
    return weights >= _HELPS_FROM * recommended


class WiredWeights:
    """The limit of wired memory, which follows the weights; ``size`` is in bytes."""

    def __init__(self, config: EngineConfig):
        self.size = 0
        self._recommended = None if config.wired_memory == "off" else recommended_memory()
        if config.wired_memory != "off" and self._recommended is None:
            log.warning('wired_memory = "weights" does nothing here: there is no Apple GPU')

    def wire(self, weights: int) -> None:
        """Wire ``weights`` bytes, as configured: those of all models that are loaded now."""
        if self._recommended is None:
            return
        mx.clear_cache()  # MLX would wire freed buffers as well, in place of weights
        self.size = wired_bytes(weights, self._recommended)
        mx.set_wired_limit(self.size)
        log.info("%.2f GB of %.2f GB of weights are wired", self.size / 1e9, weights / 1e9)


def unwire() -> None:
    """Release wired memory before the models are freed."""
    mx.set_wired_limit(0)
