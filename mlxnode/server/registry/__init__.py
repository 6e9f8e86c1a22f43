"""The models that a worker knows, and the tokenizers of those that it has opened.

``catalog.py`` holds what the node has said about models, ``opened.py`` opens one, ``opener.py``
says which are open, and ``registry.py`` finds the model of a request. May import ``config``,
``errors``, ``figures``, ``messages``, ``models`` and, of ``server``, ``errors`` and ``prompt``.
"""
