"""``/v1/messages``, Anthropic's API: its request bodies, answers, events, errors and models."""
