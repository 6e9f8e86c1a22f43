"""Text in: conversations, chat templates, tools and tokenizers.

Knows no wire format. May import ``constraints``, ``notation``, ``json_text``, ``errors`` and
``tokenizing``.
"""
