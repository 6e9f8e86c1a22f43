"""Signs of life of a child that loads: they stop as soon as its work does."""

import os
import resource
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from mlxnode.messages.control import Progress

INTERVAL = 1.0  # seconds
_LEAST_CPU = 0.001  # seconds of computing between two signs that are work


class PulsingConnection(Connection):
    """The child's end of a control pipe. It sends ``Progress`` by itself until ``stop``.

    Nothing is sent while the process does no work: no computing, no reading, no new memory. A
    process that is stopped, or whose threads all wait for each other, is silent.
    """

    def __init__(self, connection: Connection):
        """Takes the place of ``connection``, and closes it."""
        super().__init__(os.dup(connection.fileno()))
        connection.close()
        self._send_lock = threading.Lock()  # a pipe of its own sends as well
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send one message; no other thread's message gets between its parts."""
        with self._send_lock:
            super().send_bytes(buf, offset, size)

    def close(self) -> None:
        """Close the connection; the signs of life end."""
        self.stop()
        with self._send_lock:
            super().close()

    def stop(self) -> None:
        """Send no further sign of life: the child answers pings from now on."""
        self._stopped.set()

    def _beat(self) -> None:
        sign = msgspec.msgpack.encode(Progress())
        last_cpu, last_traffic = 0.0, -1
        while not self._stopped.wait(INTERVAL):
            cpu, traffic = time.process_time() - time.thread_time(), _traffic()
            if cpu - last_cpu > _LEAST_CPU or traffic != last_traffic:
                last_cpu, last_traffic = cpu, traffic
                try:
                    self.send_bytes(sign)
                except OSError:  # the supervisor is gone, or the pipe is closed
                    return


def stop_pulse(control: Connection) -> None:
    """End the signs of life on ``control``, if it makes any."""
    if isinstance(control, PulsingConnection):
        control.stop()


def _traffic() -> int:
    """Blocks read and pages brought to memory since the start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_inblock + usage.ru_majflt
