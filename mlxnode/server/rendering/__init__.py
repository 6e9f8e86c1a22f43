"""Renders chat templates, which are programs of foreign files, in a process of its own.

``remote`` stands in for a compiled template in a worker. ``helper`` starts and watches the
process, ``process`` runs in it with the ``environment`` of templates, ``limits`` bounds it.
May import ``footprint`` and jinja2: the process has to start quickly.
"""
