"""``/tokenize`` and ``/detokenize``: their request bodies and their answers."""
