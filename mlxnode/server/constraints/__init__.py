"""Grammars that an answer must follow: JSON schemas, regexes, choices, and calls of tools.

A JSON schema is prepared first (``schemas``): ``document`` has its places and references,
``keywords`` reduces a node to what llguidance enforces, ``closing`` writes the whole.

May import ``notation``, ``grammar`` and ``errors``.
"""
