"""The answers that clients can find again, in one file that all workers open.

May import the standard library alone: the formats decide what an answer is.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

FILE = "responses.sqlite"
# Of each key, besides the number: an answer is stored with all that it was made from, so that
# each of them can be continued without the others.
MAX_BYTES = 256 * 1024 * 1024
_BUSY_TIMEOUT = 10.0  # seconds to wait for another worker that writes
_TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS by_id ON responses (owner, id);
CREATE INDEX IF NOT EXISTS by_age ON responses (owner, number DESC, size);
"""
# The rows of an owner beyond the newest ones, by number or by bytes.
_DELETE_OLD = """
DELETE FROM responses WHERE number IN (
    SELECT number FROM (
        SELECT number,
            row_number() OVER newest AS place,
            sum(size) OVER newest AS bytes
        FROM responses WHERE owner = ?
        WINDOW newest AS (ORDER BY number DESC)
    ) WHERE place > ? OR bytes > ?
)
"""

Result = TypeVar("Result")


class ResponseStore:
    """Keeps the newest ``capacity`` answers of each owner; an owner finds only its own.

    The work is done on a thread. Every method raises sqlite3.Error if the file fails.
    """

    def __init__(self, folder: Path, capacity: int, max_bytes: int = MAX_BYTES):
        self._file = folder / FILE
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "response store")

    async def put(self, owner: str, id: str, data: bytes) -> bool:
        """Store an answer; False if it is larger than all that an owner may have."""
        if len(data) > self._max_bytes:
            return False

        def insert(connection: sqlite3.Connection) -> bool:
            connection.execute(
                "INSERT OR REPLACE INTO responses (owner, id, size, data) VALUES (?, ?, ?, ?)",
                (owner, id, len(data), data),
            )
            connection.execute(_DELETE_OLD, (owner, self._capacity, self._max_bytes))
            return True

        return await self._run(insert)

    async def get(self, owner: str, id: str) -> bytes | None:
        """A stored answer, if there is one of that id."""

        def select(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT data FROM responses WHERE owner = ? AND id = ?"
            row = connection.execute(query, (owner, id)).fetchone()
            return None if row is None else row[0]

        return await self._run(select)

    async def delete(self, owner: str, id: str) -> bool:
        """Forget an answer; False if there is none of that id."""

        def delete(connection: sqlite3.Connection) -> bool:
            query = "DELETE FROM responses WHERE owner = ? AND id = ?"
            return connection.execute(query, (owner, id)).rowcount > 0

        return await self._run(delete)

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        def in_thread() -> Result:
            with self._open() as connection:  # one transaction
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, in_thread)

    def _open(self) -> sqlite3.Connection:
        """The connection of the thread; the first worker makes the file."""
        if self._connection is not None:
            return self._connection
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the mode of the file is changed by one alone
            connection = sqlite3.connect(self._file, timeout=_BUSY_TIMEOUT)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # the file ends with the node
            connection.execute("PRAGMA secure_delete = FAST")
            connection.executescript(_TABLES)
        self._connection = connection
        return connection
