"""KV caches: of the batch, of prefixes in memory and on disk, and the memory budget.

May import mlx and mlx_lm; no other room of the engine.
"""
