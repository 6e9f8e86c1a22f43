"""The caches of the layers of a batch, one file for each kind. Each holds all rows."""
