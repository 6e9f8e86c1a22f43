"""``/v1/chat/completions``: its request schema, its answers and their writer."""
