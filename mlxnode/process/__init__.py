"""The processes and the pipes between them: supervisor, child processes, rate-limit ledger.

May import ``errors``, ``config``, ``messages`` and ``models``; never sanic, never mlx.
"""
