"""Measurements of a machine. May import mlx and the KV caches of the engine."""
