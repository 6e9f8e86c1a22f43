"""The worker's end of the data pipe: requests to the engine, and their answers.

May import ``messages``, ``process`` and, of ``server``, ``errors`` and ``prompt``.
"""
