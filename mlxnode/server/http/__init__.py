"""HTTP for every endpoint: connections, bodies, validation, keys, CORS, rate limits, OpenAPI.

May import ``formats`` and all rooms below it, ``registry`` and ``client``; never ``routes``.
"""
