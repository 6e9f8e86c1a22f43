"""Text in: conversations, chat templates, tools, constraints and tokenizers.

May import ``notation``.
"""
