"""The endpoints: one file for each family, from the request to its response.

May import every other room of ``server``.
"""
