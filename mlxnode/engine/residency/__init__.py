"""Which models are in memory: loading in pieces, unloading, and who has to make room.

Imports the rooms of the runners, ``fit``, ``memory``, ``messages`` and ``models``. The files
``known.py``, ``policy.py`` and ``waiting.py`` need no mlx.
"""
