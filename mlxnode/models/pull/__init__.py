"""Downloads models of the Hugging Face hub: what a user wants, what the hub has, its bytes.

May import ``config``, ``errors`` and the files of ``models`` beside it.
"""
