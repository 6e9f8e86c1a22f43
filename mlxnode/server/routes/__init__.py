"""The endpoints: one file for each, from the HTTP request to its response.

May import all rooms of ``server`` but ``app`` and ``worker``, ``messages`` and ``models``.
"""
