"""Processes, and the pipes between them: the supervisor, its children, the rate-limit ledger.

May import ``config``, ``messages``, ``errors`` and the description of models; never sanic, and
never mlx.
"""
