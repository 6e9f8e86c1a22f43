"""The configuration: its tables, its file, its keys. Imports ``errors`` only."""
