"""The ranks of one engine on several machines: how they are started, connected and watched.

Rank 0 is the engine of the node; ``cluster`` is its side. The others are processes of ``mlxnode
engine`` (``rank_process``). Plans travel over a TCP connection of each (``link``), tensors over
mlx.distributed.

Its files import mlx inside functions only, but for those of the computing itself: ``mlxnode
engine`` waits for rank 0 without mlx. May import ``config``, ``messages``, ``figures``,
``process``, ``errors``, and the engine's ``cpu`` and ``memory``.
"""
