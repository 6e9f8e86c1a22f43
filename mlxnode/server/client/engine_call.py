"""What the engine generates for one HTTP request, and whom it is for."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from mlxnode.messages.data import Update
from mlxnode.server.errors import ApiError


@dataclass(frozen=True)
class Sender:
    """Whom the engine computes for; see ``messages.Work``."""

    key: str = ""
    priority: int = 0
    weight: float = 1.0
    background: bool = False


class EngineCall:
    """The sequences that the engine generates for one HTTP request, with one inbox."""

    def __init__(self, abort: Callable[[int], object], model: str):
        """``abort`` stops the sequence of a uid; all are of ``model``."""
        self._abort = abort
        self.model = model
        self._uids: list[int] = []
        self._inbox: list[tuple[int, Update]] = []
        self._error: ApiError | None = None
        self._arrival = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """True as soon as there is something to receive; False if there is not in time."""
        if not self._arrival.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._arrival.wait()
        return self._arrival.is_set()

    async def receive(self) -> list[tuple[int, Update]]:
        """Wait for updates, then take all: (index of the sequence, update).

        Raises:
            ApiError: the engine refused the request, failed or went away.
        """
        await self._arrival.wait()
        if not self._inbox and self._error is not None:
            raise self._error
        inbox, self._inbox = self._inbox, []
        if self._error is None:
            self._arrival.clear()
        return inbox

    @property
    def has_failed(self) -> bool:
        """True if the engine refused the request, failed or went away."""
        return self._error is not None

    def abort(self, index: int) -> None:
        """Stop one of the sequences, if it is still running."""
        self._abort(self._uids[index])

    def abort_all(self) -> None:
        """Stop the sequences that are still running."""
        for uid in self._uids:
            self._abort(uid)

    def add(self, uid: int) -> int:
        """Add a sequence; returns its index."""
        self._uids.append(uid)
        return len(self._uids) - 1

    def deliver(self, index: int, update: Update) -> None:
        self._inbox.append((index, update))
        self._arrival.set()

    def fail(self, error: ApiError) -> None:
        self._error = error
        self._arrival.set()
