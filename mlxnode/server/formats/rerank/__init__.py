"""``/v1/rerank`` and ``/v1/score``: their request bodies and their answers."""
