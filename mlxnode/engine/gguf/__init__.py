"""The weights of GGUF files, as MLX's own quantized layouts in the modules of mlx-lm.

``layouts`` converts blocks of values, ``tensors`` reads a file with it, ``model`` gives the
arrays to a model of mlx-lm. May import ``cpu``, models,
errors, mlx, mlx_lm, numpy and gguf.
"""
