"""How much memory this node may use, and how much its process uses."""

import os

import mlx.core as mx

from mlxnode.config.tables import EngineConfig


def memory_limit(config: EngineConfig) -> int:
    """Bytes for models, caches and computations: as configured, else as recommended.

    On Apple silicon, the system recommends a working set. Without a GPU, it is the physical
    memory.
    """
    if config.memory_gb is not None:
        return int(config.memory_gb * 1e9)
    recommended = mx.device_info().get("max_recommended_working_set_size")
    if recommended is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(recommended)
