"""Sampling and pooling on the device. Imports mlx only.

Installed as ``mlxnode.kernels``: transformers would take a top-level ``kernels`` for the
package of that name.
"""
