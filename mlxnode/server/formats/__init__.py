"""The wire formats, one folder for each: request bodies (schemas), answers and their writers.

May import ``answer``, ``prompt``, ``notation``, ``json_text``, ``errors`` and ``figures``;
never ``http`` or ``routes``.
"""
