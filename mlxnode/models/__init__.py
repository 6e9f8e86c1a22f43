"""The configured models: found, fetched and described, without loading their weights.

May import ``errors``, ``config`` and ``tokenizing``; never mlx, so that supervisor and workers
can use it.
Heavy packages (huggingface_hub, gguf, transformers) are imported inside functions.
"""
