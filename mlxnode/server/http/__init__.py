"""What every request goes through: body, validation, keys, CORS, rate limits, OpenAPI.

May import ``formats`` and all that is below it; never ``routes``.
"""
