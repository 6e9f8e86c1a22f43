"""Parses the output of a model, while it grows, into content, reasoning and tool calls.

May import ``notation``.
"""
