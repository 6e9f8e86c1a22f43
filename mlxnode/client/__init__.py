"""A client of a node: where it answers, its requests over HTTP, and a node of one's own.

The commands that talk to a model use it. Imports config, errors and process; neither sanic nor
mlx. `guard.py` is the first process of a node of one's own, and imports nothing of mlxnode.
"""
