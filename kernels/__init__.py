"""Sampling and pooling on the device. May import mlx and numpy only.

Each of the two has its parameters as columns, a Metal kernel (``*.metal``, ``*_metal.py``),
and a twin in MLX operations with the same results. ``backend.choose`` picks one of them;
``variants`` tries what MLX compiles of a kernel, and replaces what does not work by its twin.

Installed as ``mlxnode.kernels``: transformers would take a top-level module called ``kernels``
for the package of that name.
"""
