"""``/v1/completions``: its request schema, its answers and their writer."""
