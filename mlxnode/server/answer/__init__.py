"""Text out: tokens become text, text becomes content, reasoning and calls, then events.

Knows no wire format: writers of the formats implement ``writer.AnswerWriter``. May import
``prompt``, ``notation``, ``registry``, ``client``, ``errors`` and ``seldom``.
"""
