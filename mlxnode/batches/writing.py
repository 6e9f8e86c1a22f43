"""Writes results, all that have come meanwhile together: each write waits for the disk."""

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable

from mlxnode.batches.rows import Result
from mlxnode.batches.store import BatchStore

log = logging.getLogger("mlxnode.batches")

RETRY_PAUSE = 5.0  # seconds, after a disk that does not take them
MAX_WAITING = 256  # results; while more wait for the disk, no line begins


class ResultWriter:
    """Takes results on the event loop, and writes them on a thread."""

    def __init__(self, store: BatchStore, on_written: Callable[[], None]):
        self._store = store
        self._on_written = on_written
        self._waiting: dict[str, list[Result]] = defaultdict(list)  # by batch
        self._has_some = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def has_waiting(self, batch_id: str) -> bool:
        """True if there are results of the batch that are not on the disk."""
        return batch_id in self._waiting

    def add(self, batch_id: str, result: Result) -> None:
        self._waiting[batch_id].append(result)
        self._is_idle.clear()
        self._has_some.set()

    async def idle(self) -> None:
        """Wait until all results are written."""
        await self._is_idle.wait()

    async def run(self) -> None:
        """Write until it is cancelled."""
        while True:
            await self._has_some.wait()
            for batch_id in list(self._waiting):
                await self._write(batch_id)
            if not self._waiting:
                self._has_some.clear()
                self._is_idle.set()
            self._on_written()

    async def _write(self, batch_id: str) -> None:
        results = list(self._waiting[batch_id])
        try:
            await asyncio.to_thread(self._store.append, batch_id, results)
        except (OSError, sqlite3.Error) as error:
            log.warning("results of %s wait for the disk: %s", batch_id, error)
            await asyncio.sleep(RETRY_PAUSE)
            return
        left = self._waiting[batch_id][len(results) :]
        if left:
            self._waiting[batch_id] = left
        else:
            del self._waiting[batch_id]
