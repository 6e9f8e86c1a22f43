"""The wire formats: what a request may hold (schemas) and how an answer is written (writers).

May import ``prompt`` and ``answer``; never ``http`` or ``routes``.
"""
