"""The files: plain files in a folder, and a row for each.

A file that is being written is called ``<id>.part`` and is locked by its writer: who can lock
it, removes it, as its writer has died.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mlxnode.batches.database import Database
from mlxnode.batches.rows import OPEN, FileInUse, FileTooLarge, QuotaExceeded, StoredFile

_PART = ".part"
_STEP = 8 * 1024 * 1024  # bytes of the quota that a file of unknown size takes at a time
_BUFFER = 1024 * 1024  # bytes
LEAST_BYTES = 1024  # of the quota, for each file: an empty one takes room as well
_COLUMNS = ", ".join(StoredFile.__struct_fields__)
_USED = (
    f"SELECT COALESCE(SUM(MAX(bytes, {LEAST_BYTES})), 0) FROM files WHERE owner = ? AND id != ?"
)
_OPEN = ", ".join(f"'{status}'" for status in OPEN)
_REMOVABLE = (
    f"id NOT IN (SELECT input_file_id FROM batches WHERE status IN ({_OPEN})) AND is_complete"
)


class Upload:
    """A file that is being written. One thread at a time calls the methods.

    ``keep`` of the store makes it a file, ``discard`` removes it.
    """

    def __init__(
        self, database: Database, id: str, owner: str, quota: int | None, max_bytes: int | None
    ):
        self.id, self.owner = id, owner
        self.size = 0
        self._database = database
        self._quota, self._max_bytes = quota, max_bytes
        self._reserved = 0
        self.path = database.files / f"{id}{_PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self.path, flags, 0o600), "wb", _BUFFER)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def reserve(self, size: int) -> None:
        """Take ``size`` bytes of the quota, those that are taken already included.

        Raises:
            QuotaExceeded: the key does not have so many.
        """
        if size <= self._reserved:
            return
        with self._database.writing() as connection:
            if self._quota is not None:
                [used] = connection.execute(_USED, (self.owner, self.id)).fetchone()
                if used + max(size, LEAST_BYTES) > self._quota:
                    raise QuotaExceeded(used, self._quota)
                size = min(max(size, self.size + _STEP), self._quota - used)
            connection.execute("UPDATE files SET bytes = ? WHERE id = ?", (size, self.id))
        self._reserved = size

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            FileTooLarge: the file would be larger than a file may be.
            QuotaExceeded: the key has no room for it.
        """
        size = self.size + len(data)
        if self._max_bytes is not None and size > self._max_bytes:
            raise FileTooLarge(self._max_bytes)
        if size > self._reserved and self._quota is not None:
            self.reserve(size)
        self._file.write(data)
        self.size = size

    def flush(self) -> None:
        """Bring all bytes to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the lock back: from now on, an unfinished file can be removed by anybody."""
        with contextlib.suppress(OSError):  # what could not be written is lost anyway
            self._file.close()

    def discard(self) -> None:
        """Remove the file; after ``keep``, this changes nothing."""
        self.path.unlink(missing_ok=True)
        self.close()
        with self._database.writing() as connection:
            connection.execute("DELETE FROM files WHERE id = ? AND NOT is_complete", (self.id,))


class Kept(msgspec.Struct, frozen=True):
    """What a file is, once it is written. ``expires_at``: Unix seconds; None: never."""

    upload: Upload
    filename: str
    purpose: str
    expires_at: int | None


class FileStore:
    """The files of all keys. Each method with an ``owner`` knows its files alone.

    Methods raise OSError or sqlite3.Error if the disk fails, and block meanwhile.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def begin(
        self, owner: str, *, quota: int | None = None, max_bytes: int | None = None
    ) -> Upload:
        """Begin a file. ``quota``: of all files of the owner in bytes; None: no limit."""
        id = f"file-{secrets.token_hex(12)}"
        with self._database.locked():
            upload = Upload(self._database, id, owner, quota, max_bytes)
            try:
                with self._database.writing() as connection:
                    connection.execute(
                        "INSERT INTO files (id, owner, filename, purpose, bytes, created_at, "
                        "is_complete) VALUES (?, ?, '', '', 0, ?, 0)",
                        (id, owner, int(self._clock())),
                    )
            except BaseException:
                upload.path.unlink(missing_ok=True)
                upload.close()
                raise
        return upload

    def keep(
        self,
        files: Sequence[Kept],
        also: Callable[[sqlite3.Connection], object] | None = None,
    ) -> list[StoredFile]:
        """Make complete files of uploads, and do ``also`` in the same transaction."""
        for kept in files:
            kept.upload.flush()
        with self._database.locked():
            for kept in files:
                kept.upload.path.rename(self._database.files / kept.upload.id)
            self._flush_folder()
            with self._database.writing() as connection:
                for kept in files:
                    connection.execute(
                        "UPDATE files SET filename = ?, purpose = ?, bytes = ?, "
                        "created_at = ?, expires_at = ?, is_complete = 1 WHERE id = ?",
                        (
                            kept.filename,
                            kept.purpose,
                            kept.upload.size,
                            int(self._clock()),
                            kept.expires_at,
                            kept.upload.id,
                        ),
                    )
                if also is not None:
                    also(connection)
                stored = [_find(connection, k.upload.owner, k.upload.id, 0) for k in files]
        for kept in files:
            kept.upload.close()
        return [file for file in stored if file is not None]

    def get(self, owner: str, id: str) -> StoredFile | None:
        """A file of ``owner`` that has not expired."""
        with self._database.reading() as connection:
            return _find(connection, owner, id, int(self._clock()))

    def page(
        self,
        owner: str,
        *,
        after: StoredFile | None = None,
        limit: int,
        newest_first: bool = True,
        purpose: str | None = None,
    ) -> list[StoredFile]:
        """At most ``limit`` files of ``owner``, those after the file ``after`` in the order."""
        direction, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        query = (
            f"SELECT {_COLUMNS} FROM files WHERE owner = ? AND is_complete "
            "AND (expires_at IS NULL OR expires_at > ?) AND purpose = COALESCE(?, purpose)"
        )
        values: list[object] = [owner, int(self._clock()), purpose]
        if after is not None:
            query += f" AND number {sign} ?"
            values.append(after.number)
        query += f" ORDER BY number {direction} LIMIT ?"
        with self._database.reading() as connection:
            rows = connection.execute(query, (*values, limit)).fetchall()
        return [_file_of(row) for row in rows]

    def used(self, owner: str) -> int:
        """The bytes of the quota that all files of ``owner`` take, unfinished ones included."""
        with self._database.reading() as connection:
            return connection.execute(_USED, (owner, "")).fetchone()[0]

    def path(self, file_id: str) -> Path:
        """Where the bytes of a complete file are."""
        return self._database.files / file_id

    def delete(self, owner: str, id: str) -> bool:
        """Remove a file; False if ``owner`` has none of that id.

        Raises:
            FileInUse: a batch that has not ended reads it.
        """
        with self._database.locked():
            with self._database.writing() as connection:
                if _find(connection, owner, id, int(self._clock())) is None:
                    return False
                query = (
                    f"SELECT id FROM batches WHERE input_file_id = ? AND status IN ({_OPEN}) "
                )
                if (batch := connection.execute(query, (id,)).fetchone()) is not None:
                    raise FileInUse(batch["id"])
                connection.execute("DELETE FROM files WHERE id = ?", (id,))
            self.path(id).unlink(missing_ok=True)
        return True

    def clean(self) -> None:
        """Remove expired files, and what is left of writers that have died."""
        now = int(self._clock())
        with self._database.locked():
            with self._database.writing() as connection:
                query = f"DELETE FROM files WHERE expires_at <= ? AND {_REMOVABLE}"
                connection.execute(query, (now,))
                # Each writer inserts its row while it has this lock, as a file has its name.
                names = {path.name for path in self._database.files.iterdir()}
                unfinished = connection.execute("SELECT id FROM files WHERE NOT is_complete")
                for [id] in unfinished.fetchall():
                    part = self._database.files / f"{id}{_PART}"
                    if part.name not in names or _is_abandoned(part):
                        connection.execute("DELETE FROM files WHERE id = ?", (id,))
                known = {row[0] for row in connection.execute("SELECT id FROM files")}
            for name in names:
                if name.removesuffix(_PART) not in known:
                    (self._database.files / name).unlink(missing_ok=True)

    def _flush_folder(self) -> None:
        folder = os.open(self._database.files, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _is_abandoned(part: Path) -> bool:
    """True if no process writes the file."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _find(connection: sqlite3.Connection, owner: str, id: str, now: int) -> StoredFile | None:
    query = (
        f"SELECT {_COLUMNS} FROM files WHERE id = ? AND owner = ? AND is_complete "
        "AND (expires_at IS NULL OR expires_at > ?)"
    )
    row = connection.execute(query, (id, owner, now)).fetchone()
    return None if row is None else _file_of(row)


def _file_of(row: sqlite3.Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__struct_fields__})
