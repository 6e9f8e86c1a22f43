"""The processes and the pipes between them: supervisor, child processes, rate-limit ledger.

What the supervisor asks of the machine is here, too: the address, descriptors, signals, sleep.
May import ``errors``, ``config``, ``messages`` and ``models``; never sanic, never mlx.
"""
