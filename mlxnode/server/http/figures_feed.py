"""The figures of the node for all that watch: they are read once a second, whoever asks.

Nobody watching, nobody reads.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from mlxnode.figures import NodeFigures
from mlxnode.server.errors import SHUTTING_DOWN, RateLimited, Unavailable

INTERVAL = 1.0  # seconds between two reads
MAX_WATCHERS = 100  # of one worker
MAX_WATCHERS_PER_KEY = 50  # of one worker
_RETRY_AFTER = 10.0  # seconds


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The figures of one moment. ``encoded`` has what was made of them, for all that see it."""

    figures: NodeFigures
    read_at: float  # on the loop's clock
    time: float = field(default_factory=time.time)  # since 1970
    encoded: dict[Hashable, bytes] = field(default_factory=dict)

    def encode(self, kind: Hashable, make: Callable[[], bytes]) -> bytes:
        """What ``make`` makes of the figures, once for each ``kind``."""
        if kind not in self.encoded:
            self.encoded[kind] = make()
        return self.encoded[kind]


class FiguresFeed:
    """One for each worker; all of it is on the event loop but ``read``."""

    def __init__(self, read: Callable[[], NodeFigures]):
        """``read`` is called in a thread: the supervisor may be slow to answer."""
        self._read = read
        self._latest: Snapshot | None = None
        self._reading: asyncio.Task[Snapshot] | None = None
        self._watchers: Counter[str] = Counter()
        self._closed = asyncio.Event()

    @contextlib.contextmanager
    def watching(self, key: str) -> Iterator[None]:
        """One more stream of the figures, for ``key``.

        Raises:
            RateLimited: the key has as many as it may have.
            Unavailable: the worker has.
        """
        if self._watchers[key] >= MAX_WATCHERS_PER_KEY:
            raise RateLimited(
                f"This key watches the figures {MAX_WATCHERS_PER_KEY} times already",
                kind="requests",
                retry_after=_RETRY_AFTER,
            )
        if self._watchers.total() >= MAX_WATCHERS:
            raise Unavailable(f"The figures are watched {MAX_WATCHERS} times already")
        self._watchers[key] += 1
        try:
            yield
        finally:
            self._watchers[key] -= 1
            self._watchers += Counter()  # which drops those without watchers

    async def latest(self) -> Snapshot:
        """The figures, at most ``INTERVAL`` old.

        Raises:
            Unavailable: they cannot be read.
        """
        now = asyncio.get_running_loop().time()
        if self._latest is not None and now - self._latest.read_at < INTERVAL:
            return self._latest
        return await self._read_again()

    async def after(self, seen: Snapshot) -> Snapshot:
        """The figures that follow those that were ``seen``: all who watch wake together.

        Raises:
            Unavailable: they cannot be read, or the node ends.
        """
        pause = seen.read_at + INTERVAL - asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(pause, 0.0)):
                await self._closed.wait()
        if self._closed.is_set():
            raise Unavailable(SHUTTING_DOWN)
        return await self.latest() if self._latest is not seen else await self._read_again()

    def close(self) -> None:
        """End all streams."""
        self._closed.set()

    async def _read_again(self) -> Snapshot:
        """Read, or wait for those that read already."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._take())
            self._reading.add_done_callback(self._note_end)
        return await asyncio.shield(self._reading)  # others wait for it as well

    async def _take(self) -> Snapshot:
        began = asyncio.get_running_loop().time()
        self._latest = Snapshot(await asyncio.to_thread(self._read), began)
        return self._latest

    def _note_end(self, reading: asyncio.Task[Snapshot]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # whoever waits gets it; nobody may wait any more
