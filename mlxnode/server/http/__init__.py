"""HTTP for every endpoint: bodies, validation, keys, CORS, rate limits, OpenAPI.

May import ``formats`` and all rooms below it, ``registry`` and ``client``; never ``routes``.
"""
