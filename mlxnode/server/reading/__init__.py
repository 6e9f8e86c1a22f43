"""From the bytes of a body to a valid body; of a large one, in a process of its own.

May import ``formats``, ``errors``, ``json_text`` and ``process``; never sanic, nor a room above
``formats``.
"""
