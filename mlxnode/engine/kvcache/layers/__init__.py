"""The caches of the layers of a batch, one file for each kind. Each holds all rows.

``layer.py`` is what the batch needs of each kind; ``factory.py`` chooses the kind.
"""
