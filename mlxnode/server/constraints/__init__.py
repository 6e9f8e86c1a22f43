"""Grammars that an answer must follow: JSON schemas, regexes, choices, and calls of tools.

May import ``notation``, ``grammar`` and ``errors``.
"""
