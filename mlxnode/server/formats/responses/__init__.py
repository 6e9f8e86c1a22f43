"""``/v1/responses``: its request body and items, its answers, their events and their writer."""
