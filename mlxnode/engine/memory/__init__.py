"""The memory of the device and of the process: limits, and what is used.

May import ``config`` and mlx; no other room.
"""
