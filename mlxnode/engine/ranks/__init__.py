"""The ranks of one engine on several machines: rank 0 decides, the others follow.

Rank 0 is the engine of the node; ``cluster`` is its side. The others are processes of ``mlxnode
engine`` (``rank_process``). Plans travel over a TCP connection of each (``link``), tensors over
mlx.distributed.

``leader`` sends the calls that all ranks make (``engine/mirror.py``) and the models to load;
``follower`` receives them, ``calls`` makes them. All other files import mlx inside functions
only: ``mlxnode engine`` waits for rank 0 without mlx. May import ``config``, ``messages``,
``figures``, ``models``, ``process``, ``errors``, and the engine's ``cpu``, ``decode``, ``fit``,
``loader``, ``memory`` and ``mirror``.
"""
