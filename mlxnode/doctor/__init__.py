"""``mlxnode doctor``: does the node work on this machine, and what is measured there?

``examine`` makes the list for a user, ``report`` the file for whoever maintains mlxnode. What
needs mlx is a probe, which runs in a process of its own (``child``): the command survives a
probe that ends its process. One file for each group of checks. May import all rooms but
``server`` and ``cli``.
"""
