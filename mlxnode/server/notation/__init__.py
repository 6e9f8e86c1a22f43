"""How a model family writes its reasoning and its tool calls.

Holds the description of a notation, how it is read off a chat template and proven, and the
parser of a model's output. May import no other room.
"""
