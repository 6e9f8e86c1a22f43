"""Rerankers: the settings in a model's folder, and the token ids of a query and a document.

Workers read them for tokenization and limits, the engine for the score. Imports no mlx, and
``transformers`` only when a tokenizer is loaded. May import ``errors`` and ``sentence``.
"""
