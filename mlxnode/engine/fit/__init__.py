"""What a model needs in memory, before its weights are read.

May import the rooms of the engine beside it except its loop, ``config``, ``errors`` and
``models``, which has the arithmetic and the text of a verdict.
"""
