"""The engine: the one process that owns MLX and the unified memory.

May import mlx, mlx_lm and the kernels; never sanic.
"""
