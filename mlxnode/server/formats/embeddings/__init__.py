"""``/v1/embeddings``: its request schema and its answers."""
