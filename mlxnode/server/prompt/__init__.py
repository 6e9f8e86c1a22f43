"""Text in: conversations, chat templates, tools, constraints and tokenizers.

Knows no wire format. May import ``notation`` and ``errors``.
"""
