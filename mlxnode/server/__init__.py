"""The HTTP workers: from a request to typed messages for the engine, and back to SSE.

May import sanic, pydantic, transformers and mlx_lm's tokenizer modules; never mlx (a second
process with MLX open would wire memory of its own).
"""
