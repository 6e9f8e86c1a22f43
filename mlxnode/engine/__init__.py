"""The engine: the one process that owns MLX and the unified memory.

``entry`` starts the process, ``loop`` runs it. The rooms share ``work`` (the protocol of a
runner), ``fairness``, ``pacing`` and ``weights``. May import all rooms below ``server``, mlx
and mlx_lm; never sanic.
"""
