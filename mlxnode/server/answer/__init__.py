"""Text out: tokens become text, text becomes content, reasoning and calls, then events.

May import ``prompt`` and ``notation``.
"""
