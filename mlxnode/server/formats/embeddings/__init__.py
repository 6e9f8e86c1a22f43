"""``/v1/embeddings``: its request body and its answers."""
