"""``/v1/chat/completions``: its request body, its answers and their writer."""
