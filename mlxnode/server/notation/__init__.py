"""How a model family writes its reasoning and its tool calls, and the tools of a request.

The description that other rooms derive, parse, enforce and write. May import no other room.
"""
