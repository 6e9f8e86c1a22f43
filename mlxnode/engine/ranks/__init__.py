"""One engine over several machines: rank 0 decides, the other ranks follow.

``leader`` is rank 0's side of the mirrored calls (``engine/mirror.py``), ``follower`` the other
one. May import the rooms of the engine below ``residency``.
"""
