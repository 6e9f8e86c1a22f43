"""The requests in flight, as the workers tell them."""

from collections.abc import Sequence
from operator import attrgetter

from mlxnode.figures import RequestFigures
from mlxnode.messages.control import Cancel, Pong
from mlxnode.process.child import Child

_MOST = 200  # requests that are told, of all workers


class RequestsInFlight:
    """What each worker has told last; the supervisor's loop calls all methods."""

    def __init__(self, workers: Sequence[Child]):
        self._workers = workers
        self._told: dict[Child, tuple[int, Pong]] = {}  # with the incarnation

    def note(self, worker: Child, pong: Pong) -> None:
        """The worker has told its requests."""
        if worker in self._workers:
            self._told[worker] = worker.incarnation, pong

    def cancel(self, message: Cancel) -> None:
        """Tell all workers to end a request: only one has it."""
        for worker in self._workers:
            worker.send(message)

    @property
    def count(self) -> int:
        """The number of all requests in flight."""
        return sum(pong.num_requests for pong in self._current)

    @property
    def oldest(self) -> list[RequestFigures]:
        """The requests in flight, the oldest first, as many as are told."""
        told = [request for pong in self._current for request in pong.requests]
        return sorted(told, key=attrgetter("seconds"), reverse=True)[:_MOST]

    @property
    def _current(self) -> list[Pong]:
        """Of workers that still run: the requests of a worker end with its process."""
        return [
            pong
            for worker, (incarnation, pong) in self._told.items()
            if worker.is_ready and worker.incarnation == incarnation
        ]
