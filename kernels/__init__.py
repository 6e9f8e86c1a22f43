"""Sampling and pooling on the device. Imports mlx and numpy only.

For each of the two: its parameters as columns, a Metal kernel (``*.metal``, ``*_metal.py``) and
a twin in MLX operations that gives the same answer; ``backend.choose`` picks.

Installed as ``mlxnode.kernels``: transformers would take a top-level ``kernels`` for the
package of that name.
"""
