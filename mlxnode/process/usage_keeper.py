"""Keeps the usage of all keys: the supervisor counts, and a thread writes to the usage file.

A disk that is full, slow or gone delays nobody. The sums stay in memory, one for each day, key
and model, and are written once that works again.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlxnode.config.tables import ServerConfig
from mlxnode.errors import UsageError
from mlxnode.messages.control import Usage
from mlxnode.process.usage_file import Place, Sums, add_usage, keep_days, open_usage, usage_path

log = logging.getLogger("mlxnode.supervisor")

PAUSE = 0.5  # seconds between two writes; a supervisor that is killed loses this time at most
RETRY = 10.0  # seconds until the next try, after a write that failed
_CLOSE_TIMEOUT = 5.0  # seconds for the last write


class UsageKeeper:
    """Counts from ``open`` to ``close``."""

    def __init__(self, server: ServerConfig, clock: Callable[[], float] = time.time):
        """``clock`` tells the seconds since 1970."""
        self._configured = server.usage_file
        self._days_kept = server.usage_days
        self._clock = clock
        self._cleaned_on = ""  # the day on which old days were removed last
        self._sums: dict[Place, Sums] = {}  # that the file does not have yet
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closed = threading.Event()
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None  # of the thread
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def open(self) -> None:
        """Write from now on. A node serves without its usage file, so an error is logged."""
        try:
            self._path = usage_path(self._configured)
        except UsageError as error:
            log.warning("the usage of the keys is not kept: %s", error)
        if self._path is not None:
            self._thread.start()

    def add(self, usage: Usage) -> None:
        """Count one request. Never waits for the disk."""
        if self._path is None:
            return
        place = Place(self._day(), usage.key, usage.model)
        self._merge({place: Sums(1, usage.prompt, usage.cached, usage.completion)})
        self._news.set()

    def close(self) -> None:
        """Write what is left, and end."""
        self._closed.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_TIMEOUT)
        if lost := sum(sums.requests for sums in self._take().values()):
            log.error("the usage of %d requests is lost: %s was not written", lost, self._path)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._news.wait()
            self._news.clear()
            self._closed.wait(PAUSE if self._write() else RETRY)
        self._write()
        self._disconnect()

    def _write(self) -> bool:
        """True if the file has all sums."""
        sums = self._take()
        if not sums or self._path is None:
            return True
        try:
            if not self._path.exists():  # the user has removed it
                self._disconnect()
            if self._connection is None:
                self._connection = open_usage(self._path)
            add_usage(self._connection, sums.items())
            sums = {}
            self._clean(self._connection)
        except (OSError, sqlite3.Error) as error:
            self._merge(sums)
            self._news.set()  # so that there is a next try
            self._disconnect()
            if not self._is_failing:
                log.warning(
                    "the usage of the keys cannot be written: %s: %s", self._path, error
                )
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("the usage of the keys is written again: %s", self._path)
        self._is_failing = False
        return True

    def _clean(self, connection: sqlite3.Connection) -> None:
        """Once a day, remove what is too old."""
        if self._cleaned_on != (today := self._day()):
            keep_days(connection, self._days_kept)
            self._cleaned_on = today

    def _day(self) -> str:
        """Today, in UTC."""
        return time.strftime("%Y-%m-%d", time.gmtime(self._clock()))

    def _merge(self, added: dict[Place, Sums]) -> None:
        with self._lock:
            for place, sums in added.items():
                self._sums[place] = self._sums.get(place, Sums()).plus(sums)

    def _take(self) -> dict[Place, Sums]:
        with self._lock:
            sums, self._sums = self._sums, {}
        return sums

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
