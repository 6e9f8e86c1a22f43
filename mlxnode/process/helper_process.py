"""Processes that work for one other process, over a socket, until it ends."""

import socket
import subprocess
import sys

from mlxnode.process.signals import held_signals

# The path of this process: an installed package needs none, a checkout does.
_CODE = (
    "import sys; sys.path[:] = sys.argv[2:]; from {module} import main; main(int(sys.argv[1]))"
)


def start_helper(module: str) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start ``main(descriptor)`` of ``module``; returns the process and our end of the socket.

    ``main`` calls ``ignore_signals``, since a terminal signals all processes; until then they
    are held back. It returns when the socket closes.

    Raises:
        OSError: the system has no process or no descriptor left.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", _CODE.format(module=module), str(theirs.fileno())]
        try:
            with held_signals():
                process = subprocess.Popen(
                    [*command, *sys.path],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except BaseException:
            ours.close()
            raise
    return process, ours
