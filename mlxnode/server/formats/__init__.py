"""The wire formats, one folder for each: request bodies (schemas), answers and their writers.

May import ``batches``, ``answer``, ``prompt``, ``notation``, ``json_text`` and ``errors``;
never ``http`` or ``routes``.
"""
