"""HTTP for every endpoint: connections, bodies, keys, CORS, rate limits, OpenAPI.

May import ``reading`` and all rooms below it, ``registry``, ``client``, ``response_store``,
``tracing`` and ``seldom``; never ``routes``.
"""
