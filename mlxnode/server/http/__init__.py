"""HTTP for every endpoint: connections, bodies, validation, keys, CORS, rate limits, OpenAPI.

May import ``formats`` and all rooms below it, ``registry``, ``client``, ``response_store`` and
``seldom``; never ``routes``.
"""
