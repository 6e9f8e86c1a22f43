"""``/v1/completions``: its request body, its answers and their writer."""
