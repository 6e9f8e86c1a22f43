"""The page for people at ``/``: its files, as they are sent. No build step makes them.

May import nothing. The page asks the API for everything that it shows, with the keys that its
user types; these files hold nothing of the node.
"""
