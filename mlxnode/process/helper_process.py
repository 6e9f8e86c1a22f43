"""Processes that work for one other process, over a socket, until it ends."""

import contextlib
import socket
import struct
import subprocess
import sys
from multiprocessing.connection import Connection

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


class HelperProcess:
    """A process that answers one question after another. It starts with the first one.

    After its end, the next question starts another one.
    """

    def __init__(self, module: str, timeout: float):
        """``main`` of ``module`` is as ``start_helper`` says; ``timeout`` is in seconds."""
        self.timeout = timeout
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """None while there is no process."""
        return None if self._process is None else self._process.pid

    def ask(self, *parts: bytes) -> bytes:
        """The answer to a question, which is one message or several.

        Raises:
            OSError, EOFError: the process cannot be started, has ended or is too slow. It does
                not exist any more.
        """
        try:
            connection = self._connection or self._start()
            for part in parts:
                connection.send_bytes(part)
            if not connection.poll(self.timeout):
                raise TimeoutError(f"no answer within {self.timeout:g} s")
            return connection.recv_bytes()
        except (OSError, EOFError):
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _start(self) -> Connection:
        self._process, ours = start_helper(self._module)
        # So that sending, too, ends when a process reads nothing: a system call fails then.
        seconds, rest = divmod(self.timeout, 1)
        limit = struct.pack("ll", int(seconds), int(rest * 1e6))  # a timeval
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._connection = Connection(ours.detach())
        return self._connection
