"""The HTTP workers: from an HTTP request to messages for the engine, and back to events.

Each room imports only rooms before it: ``errors``, ``json_text``, ``seldom``, ``notation``,
``prompt``, then ``registry``, ``client``, ``response_store`` and ``tracing``, ``answer``,
``formats``, ``reading``, ``http``, ``routes``, ``app``, ``worker``. May import sanic, pydantic,
transformers and mlx_lm's tokenizer modules; never mlx (a second process with MLX open would
wire memory of its own).
"""
