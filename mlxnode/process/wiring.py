"""The data pipes between the engine and the workers, until each child has its end."""

import logging
from multiprocessing import Pipe as make_pipe
from multiprocessing.connection import Connection

from mlxnode.messages.control import Connect
from mlxnode.process.child import Child

log = logging.getLogger("mlxnode.supervisor")


class Wiring:
    """Makes the pipes, and closes the supervisor's copies of their ends.

    An open copy would hide the death of a child from the other side.
    """

    def __init__(self) -> None:
        self._last_pipe_id = 0
        # The ends of each data pipe that their child has not received yet, by pipe id.
        self._pending_ends: dict[int, dict[Child, Connection]] = {}

    @property
    def is_complete(self) -> bool:
        """True if each child has received its ends."""
        return not self._pending_ends

    def connect(self, worker: Child, engine: Child) -> None:
        """Send each of the two an end of a new pipe, if both are ready."""
        if not (worker.is_ready and engine.is_ready):
            return
        # A new pipe each time: a killed writer may have left half a message in the old one.
        self._last_pipe_id += 1
        try:
            ends = dict(zip((worker, engine), make_pipe(duplex=True), strict=True))
        except OSError as error:
            log.warning("%s cannot be connected: %s", worker.name, error.strerror)
            worker.kill()  # the next one is connected when it is ready
            return
        self._pending_ends[self._last_pipe_id] = ends
        for child, end in ends.items():
            child.send(Connect(self._last_pipe_id), end.fileno())

    def acknowledge(self, pipe_id: int, child: Child) -> None:
        """The child has its end: close the copy."""
        ends = self._pending_ends.get(pipe_id, {})
        if child in ends:
            ends.pop(child).close()
        if not ends:
            self._pending_ends.pop(pipe_id, None)

    def drop(self, child: Child) -> None:
        """The child is dead: close what it has not received."""
        for pipe_id in list(self._pending_ends):
            self.acknowledge(pipe_id, child)
