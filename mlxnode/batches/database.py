"""The database of files and batches, which several processes open, and the folder's locks."""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

_FILE, _LOCK = "batches.sqlite", "store.lock"
_VERSION = 1  # of the tables
_BUSY_TIMEOUT = 10.0  # seconds to wait while another process writes
_TABLES = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    is_complete INTEGER NOT NULL
);
CREATE INDEX files_of_owner ON files (owner, number, bytes);
CREATE INDEX files_by_expiry ON files (expires_at);
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    output_seconds INTEGER,
    in_progress_at INTEGER,
    finalizing_at INTEGER,
    completed_at INTEGER,
    failed_at INTEGER,
    expired_at INTEGER,
    cancelling_at INTEGER,
    cancelled_at INTEGER,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    errors TEXT NOT NULL DEFAULT '[]',
    output_file_id TEXT,
    error_file_id TEXT,
    model TEXT,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX batches_of_owner ON batches (owner, number);
CREATE INDEX batches_by_status ON batches (status, number);
CREATE TABLE results (
    batch INTEGER NOT NULL,
    line INTEGER NOT NULL,
    has_failed INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (batch, line)
);
"""


def database_file(folder: Path) -> Path:
    """The file of the database in ``folder``; it is not there before the first use."""
    return folder / _FILE


class Database:
    """One connection, which the threads of a process use in turn; opened at the first use.

    What is committed outlives a failure of power. Methods raise OSError or sqlite3.Error if
    the disk or the file fails.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._connection: sqlite3.Connection | None = None
        self._in_use = threading.RLock()

    @property
    def files(self) -> Path:
        """The folder of the plain files."""
        return self.folder / "files"

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for queries."""
        with self._in_use:
            yield self._open()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction, which nobody else can write in: all or nothing."""
        with self._in_use:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it itself if the disk is full
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep plain files and their rows in step: one process and thread at a time.

        Taken before a transaction, never within one.
        """
        self._make_folders()
        with open(self.folder / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._in_use:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files.mkdir(mode=0o700, exist_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self._make_folders()
        path = database_file(self.folder)
        # The mode of the journal is changed by one process alone. The lock is another one than
        # that of ``locked``, whose holder may open the database.
        with open(self.folder / "open.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise sqlite3.DatabaseError(
                f"it has version {version} of the tables, not {_VERSION}"
            )
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # results leave again
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            connection.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {_VERSION};COMMIT;")


class RunnerLock:
    """Held by the process that runs the batches: two nodes can have the same folder."""

    def __init__(self, folder: Path):
        self._path = folder / "runner.lock"
        self._file: int | None = None

    def take(self) -> bool:
        """True if this process holds the lock now, until it ends or calls ``release``."""
        if self._file is not None:
            return True
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Let another process run the batches."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
