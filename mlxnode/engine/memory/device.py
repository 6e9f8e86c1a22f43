"""How much memory this node may use, and how much of it MLX may keep after it is freed."""

import logging
import os

import mlx.core as mx

from mlxnode.config.tables import EngineConfig

log = logging.getLogger("mlxnode.engine")

# Of the physical memory, without a GPU. It is MLX's own limit there: the workers and the system
# need the rest.
_SHARE_WITHOUT_GPU = 0.8
_MAX_BUFFER_CACHE = 2 * 10**9  # bytes; more only keeps sizes that no later step asks for
_BUFFER_CACHE_SHARE = 0.1  # of the memory limit


def memory_limit(config: EngineConfig) -> int:
    """Bytes for models, caches and computations: as configured, else as recommended.

    On Apple silicon, the system recommends a working set. Without a GPU, it is a share of the
    physical memory.
    """
    if config.memory_gb is not None:
        return int(config.memory_gb * 1e9)
    if (recommended := recommended_memory()) is not None:
        return recommended
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE_WITHOUT_GPU * physical)


def recommended_memory() -> int | None:
    """The working set in bytes that the system recommends; None without a GPU."""
    recommended = mx.device_info().get("max_recommended_working_set_size")
    return None if recommended is None else int(recommended)


def buffer_cache_limit(config: EngineConfig) -> int:
    """Bytes of freed buffers that MLX may keep to use them again."""
    if config.buffer_cache_gb is not None:
        return int(config.buffer_cache_gb * 1e9)
    return min(_MAX_BUFFER_CACHE, int(_BUFFER_CACHE_SHARE * memory_limit(config)))


def limit_memory(config: EngineConfig) -> None:
    """Tell MLX both limits. Call this before the models are loaded.

    Above the memory limit, MLX waits for running work before it launches more. On Metal, its
    buffer cache may otherwise grow to 95 % of the recommended working set.
    """
    limit, cache_limit = memory_limit(config), buffer_cache_limit(config)
    mx.set_memory_limit(limit)
    mx.set_cache_limit(cache_limit)
    log.info(
        "memory limit %.2f GB, of which at most %.2f GB are freed buffers",
        limit / 1e9,
        cache_limit / 1e9,
    )
