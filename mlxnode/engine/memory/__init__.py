"""The memory of the device and of the process: limits, what is used, and what to do above.

May import ``config``, ``engine.work``, ``footprint``, ``messages`` and mlx; no other room.
"""
