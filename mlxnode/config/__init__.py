"""The configuration: its tables, its file, its API keys, and the defaults without a file.

May import ``errors`` only.
"""
