"""All that only MLX's CPU backend needs.

May import ``kvcache`` and the kernels.
"""
