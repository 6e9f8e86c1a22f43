"""Embedding models: the settings in a sentence-transformers folder, and the tokenizer.

Workers read them for tokenization and limits, the engine for pooling. Imports no mlx, and
``transformers`` only when a tokenizer is loaded. May import ``errors``.
"""
