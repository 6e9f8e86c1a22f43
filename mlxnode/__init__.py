"""mlxnode: an OpenAI-compatible inference server, native to Apple silicon through MLX.

Folders, in the order in which a request meets them:

- ``server``: the HTTP workers (Sanic). Never import mlx.
- ``engine``: the one process that owns MLX and the unified memory. Never imports sanic.
- ``kernels``: sampling and pooling on the device. Import mlx only.

Between them: ``messages`` (what the processes say to each other), ``pipes`` (how),
``supervisor`` (starts, wires and restarts them), ``config`` and ``models`` (what is served).
"""

__version__ = "0.1.0"
