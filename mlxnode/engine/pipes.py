"""The data pipes of the workers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

from mlxnode.messages.data import EngineToWorker, WorkerToEngine
from mlxnode.process.pipe import Pipe

log = logging.getLogger("mlxnode.engine")


@dataclass(frozen=True)
class FromWorker:
    """A message of a worker; None when its pipe has closed."""

    pipe_id: int
    message: WorkerToEngine | None


class Joined(NamedTuple):
    """A worker has a new data pipe."""

    pipe_id: int


class WorkerPipes:
    """The pipes by their ids. ``on_event`` is called on the threads of the pipes."""

    def __init__(self, on_event: Callable[[FromWorker | Joined], None]):
        self._on_event = on_event
        self._pipes: dict[int, Pipe] = {}

    def connect(self, pipe_id: int, fd: int) -> None:
        """Take the engine's end of a new pipe."""
        pipe = Pipe(
            Connection(fd),
            WorkerToEngine,
            on_message=lambda message: self._on_event(FromWorker(pipe_id, message)),
            on_close=lambda: self._on_event(FromWorker(pipe_id, None)),
            name=f"worker-{pipe_id}",
        )
        self._pipes[pipe_id] = pipe
        self._on_event(Joined(pipe_id))  # before anything that comes through the pipe
        pipe.start()

    def forget(self, pipe_id: int) -> None:
        """The pipe has closed."""
        self._pipes.pop(pipe_id)

    def send(self, pipe_id: int, message: EngineToWorker) -> bool:
        """Send a message; False if the worker does not keep up. A lost worker gets nothing."""
        worker = self._pipes.get(pipe_id)
        if worker is None or worker.send(message) or worker.is_closed:
            return True
        # Thousands of steps behind: that worker hangs, and the supervisor replaces it.
        log.warning("worker pipe %d does not keep up; its requests are aborted", pipe_id)
        return False

    def send_all(self, message: EngineToWorker) -> None:
        """Send a message to each worker."""
        for pipe_id in list(self._pipes):
            self.send(pipe_id, message)
