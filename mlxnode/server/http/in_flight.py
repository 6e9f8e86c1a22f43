"""The requests that a worker answers: listed for the figures, and ended if somebody asks."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator

from sanic import Request

from mlxnode.server.errors import ApiError, Cancelled


class Flight:
    """One request, from its head to the end of its answer. All of it is on the event loop."""

    def __init__(self, id: str, request: Request):
        self.id = id
        self.request = request
        self._task = asyncio.current_task()
        self.is_stream = False
        self._stop: Callable[[ApiError], object] | None = None  # while the engine works
        self._cancelled: Cancelled | None = None
        self._is_over = False  # nothing is left to end: the answer is being written

    @property
    def is_listed(self) -> bool:
        """True of work: an admitted request, but none of those that only look at the node."""
        route = self.request.route
        if route is None or not hasattr(self.request.ctx, "is_admitted"):
            return False
        marks = ("public", "admin", "unlisted")
        return not any(getattr(route.ctx, mark, False) for mark in marks)

    @contextlib.contextmanager
    def computing(self, stop: Callable[[ApiError], object]) -> Iterator[None]:
        """While the engine works on the request, ``stop`` ends the work with an error."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    @contextlib.contextmanager
    def cancellable(self) -> Iterator[None]:
        """The work, which can be cancelled. What follows is only written.

        Raises:
            Cancelled: the request was cancelled.
        """
        try:
            yield
        except asyncio.CancelledError:
            # A task that is cancelled twice ends: its client has left, or the node ends.
            if self._cancelled is None or self._task is None or self._task.uncancel() > 0:
                raise
            raise self._cancelled from None
        finally:
            self.end()

    def cancel(self) -> None:
        """End the request with an error, unless its answer is complete already."""
        if self._is_over or self._cancelled is not None:
            return
        self._cancelled = Cancelled()
        if self._stop is not None:
            self._stop(self._cancelled)
        elif self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """The work has ended: the rest of the answer is only written."""
        self._is_over = True


class InFlight:
    """All requests of the worker."""

    def __init__(self):
        self._flights: dict[str, Flight] = {}  # the oldest first
        self._numbers = itertools.count(1)

    @contextlib.contextmanager
    def following(self, request: Request) -> Iterator[Flight]:
        """Follow ``request``, which the current task answers, until its answer has ended."""
        flight = Flight(f"{os.getpid()}-{next(self._numbers)}", request)
        self._flights[flight.id] = request.ctx.flight = flight
        try:
            yield flight
        finally:
            flight.end()
            del self._flights[flight.id]

    @property
    def listed(self) -> list[Flight]:
        """The requests that are work, the oldest first."""
        return [flight for flight in self._flights.values() if flight.is_listed]

    def cancel(self, id: str) -> None:
        """End the request, if it is one of this worker and still runs."""
        flight = self._flights.get(id)
        if flight is not None and flight.is_listed:
            flight.cancel()


def flight_of(request: Request) -> Flight:
    """The flight of a request that is answered now."""
    return request.ctx.flight
