"""mlxnode: an OpenAI-compatible inference server, native to Apple silicon through MLX.

The rooms, from the lowest to the highest; each imports only rooms before it in this list:

- ``errors``: the exceptions that end the command.
- ``config``: the configuration file and the API keys.
- ``messages``: the messages between the processes.
- ``models``: finds, fetches and describes the configured models. Never imports mlx.
- ``grammar``: compiles the grammars of constrained output.
- ``token_bytes``: the bytes of single tokens.
- ``process``: the supervisor, its child processes, and the pipes between all of them.
- ``kernels``: sampling and pooling on the device. Imports mlx and numpy only.
- ``engine``: the one process that uses MLX and owns the unified memory. Never imports sanic.
- ``server``: the HTTP workers (Sanic). Never import mlx, and never import ``engine``.
- ``doctor``: checks and measures this machine. Never imported by a node.
- ``cli``: the command line.
"""

__version__ = "1.0.0"
