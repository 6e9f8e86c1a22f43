"""How a model family writes its reasoning and its tool calls.

Holds the syntax of tool calls and the parser of a model's output. May import no other room.
"""
