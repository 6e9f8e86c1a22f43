"""How the memory limit is shared. This is the one place with the formula.

    limit = weights + activations + buffer cache + KV caches

The weights are those of the models that are loaded now. The activations are the most that a
step of each of them allocates for a moment. The buffer cache is the most that MLX keeps of
freed memory. The KV caches get what remains: running batches, prompts outside of a batch, one
layer that grows, and cached prefixes claim their bytes from there (``kvcache/budget.py``).
"""

import logging

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory.device import buffer_cache_limit, memory_limit

log = logging.getLogger("mlxnode.engine")


def free_after(config: EngineConfig, weights: int) -> int:
    """The bytes for activations and KV caches beside ``weights`` bytes of weights."""
    return max(memory_limit(config) - weights - buffer_cache_limit(config), 0)


def kv_cache_bytes(config: EngineConfig, weights: int, activations: int) -> int:
    """The bytes for KV caches: what the rest leaves free, or less if the config says so."""
    available = max(free_after(config, weights) - activations, 0)
    if config.kv_cache_gb is None:
        return available
    return min(int(config.kv_cache_gb * 1e9), available)


def describe(config: EngineConfig, weights: int, activations: int, kv_total: int) -> str:
    """The shares as one line of the log; a warning if they are not as configured."""
    if config.kv_cache_gb is not None and kv_total < int(config.kv_cache_gb * 1e9):
        log.warning(
            "engine.kv_cache_gb = %g: only %.2f GB are free beside weights, computations and "
            "freed buffers; KV caches get those",
            config.kv_cache_gb,
            kv_total / 1e9,
        )
    parts = {
        "limit": memory_limit(config),
        "weights": weights,
        "computations": activations,
        "freed buffers": buffer_cache_limit(config),
        "KV caches": kv_total,
    }
    return "memory: " + ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in parts.items())
