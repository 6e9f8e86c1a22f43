"""The node as a service of the user: launchd on a Mac, systemd elsewhere.

May import ``errors``. The programs of the system do the work.
"""
