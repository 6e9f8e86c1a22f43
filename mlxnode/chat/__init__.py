"""The chat in a terminal: a conversation, its commands, what is typed and what is drawn.

Imports client and errors. It knows no option of the command line.
"""
