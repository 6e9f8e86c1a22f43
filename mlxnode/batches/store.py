"""The batches: what clients ask of them, and what the process that runs them needs."""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlxnode.batches.database import Database
from mlxnode.batches.files import FileStore, Kept, Upload
from mlxnode.batches.rows import (
    OPEN,
    BatchStatus,
    EndStatus,
    HasEnded,
    Problem,
    Result,
    StoredBatch,
    StoredFile,
    TooManyOpen,
)

_MAX_ENDED = 10_000  # batches of a key that have ended and are still listed
_COLUMNS = ", ".join(StoredBatch.__struct_fields__)
_OPEN = ", ".join(f"'{status}'" for status in OPEN)
_OUTPUT = "batch_output"  # the purpose of files with results
_ADD = """
UPDATE batches SET completed = completed + ?, failed = failed + ?,
    input_tokens = input_tokens + ?, cached_tokens = cached_tokens + ?,
    output_tokens = output_tokens + ?, reasoning_tokens = reasoning_tokens + ?
WHERE number = ?
"""


class BatchStore:
    """The batches of all keys; ``files`` has the files. Several processes open one folder.

    Methods raise OSError or sqlite3.Error if the disk fails, and block meanwhile: the event
    loops call them in threads. What they have changed when they return outlives a crash.
    """

    def __init__(
        self, folder: Path, *, keep_days: float = 30.0, clock: Callable[[], float] = time.time
    ):
        self.folder = folder
        self._database = Database(folder)
        self._clock = clock
        self._keep_seconds = int(keep_days * 86_400)
        self.files = FileStore(self._database, clock)

    def close(self) -> None:
        """Close the database; the next call opens it again."""
        self._database.close()

    def keep(
        self, upload: Upload, *, filename: str, purpose: str, seconds: int | None
    ) -> StoredFile:
        """Make a file of a complete upload; it expires after ``seconds``, or ``keep_days``."""
        expires_at = int(self._clock()) + (seconds or self._keep_seconds)
        [file] = self.files.keep([Kept(upload, filename, purpose, expires_at)])
        return file

    # --- for clients ------------------------------------------------------------------

    def create(
        self,
        owner: str,
        *,
        endpoint: str,
        input_file_id: str,
        completion_window: str,
        seconds: int,
        metadata: dict[str, str] | None = None,
        output_seconds: int | None = None,
        max_open: int | None = None,
    ) -> StoredBatch | None:
        """Add a batch, ``validating``, that expires after ``seconds``; None: no such file.

        Raises:
            TooManyOpen: ``owner`` has ``max_open`` batches that have not ended.
        """
        now = int(self._clock())
        id = f"batch_{secrets.token_hex(12)}"
        with self._database.writing() as connection:
            # In the transaction: the file cannot be deleted before the batch is open.
            is_known = connection.execute(
                "SELECT 1 FROM files WHERE id = ? AND owner = ? AND is_complete "
                "AND (expires_at IS NULL OR expires_at > ?)",
                (input_file_id, owner, now),
            ).fetchone()
            if is_known is None:
                return None
            query = f"SELECT COUNT(*) FROM batches WHERE owner = ? AND status IN ({_OPEN})"
            [num_open] = connection.execute(query, (owner,)).fetchone()
            if max_open is not None and num_open >= max_open:
                raise TooManyOpen(max_open)
            connection.execute(
                "INSERT INTO batches (id, owner, endpoint, input_file_id, completion_window, "
                "metadata, status, created_at, expires_at, output_seconds) "
                "VALUES (?, ?, ?, ?, ?, ?, 'validating', ?, ?, ?)",
                (
                    id,
                    owner,
                    endpoint,
                    input_file_id,
                    completion_window,
                    msgspec.json.encode(metadata).decode(),
                    now,
                    now + seconds,
                    output_seconds,
                ),
            )
            connection.execute(
                f"DELETE FROM batches WHERE owner = ? AND status NOT IN ({_OPEN}) "
                "AND number <= (SELECT number FROM batches WHERE owner = ? "
                "ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (owner, owner, _MAX_ENDED),
            )
            return _find(connection, id)

    def get(self, owner: str, id: str) -> StoredBatch | None:
        """A batch of ``owner``."""
        batch = self.find(id)
        return batch if batch is not None and batch.owner == owner else None

    def page(
        self, owner: str, *, after: StoredBatch | None = None, limit: int
    ) -> list[StoredBatch]:
        """At most ``limit`` batches of ``owner``, the newest first, those after ``after``."""
        query = f"SELECT {_COLUMNS} FROM batches WHERE owner = ?"
        values: list[object] = [owner]
        if after is not None:
            query += " AND number < ?"
            values.append(after.number)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"{query} ORDER BY number DESC LIMIT ?", (*values, limit)
            ).fetchall()
        return [_batch_of(row) for row in rows]

    def cancel(self, owner: str, id: str) -> StoredBatch | None:
        """Let the batch end: ``cancelling``, until the process that runs batches has ended it.

        None if ``owner`` has no batch of that id.

        Raises:
            HasEnded: it has ended already, or its results are being written.
        """
        with self._database.writing() as connection:
            batch = _find(connection, id)
            if batch is None or batch.owner != owner:
                return None
            if batch.status in ("cancelling", "cancelled"):
                return batch
            if batch.expired_at is not None:
                raise HasEnded("expired")
            if batch.status not in ("validating", "in_progress"):
                raise HasEnded(batch.status)
            _update(connection, id, status="cancelling", cancelling_at=int(self._clock()))
            return _find(connection, id)

    # --- for the process that runs batches --------------------------------------------

    def open_batches(self) -> list[StoredBatch]:
        """All batches that have not ended, the oldest first."""
        query = f"SELECT {_COLUMNS} FROM batches WHERE status IN ({_OPEN}) ORDER BY number"
        with self._database.reading() as connection:
            return [_batch_of(row) for row in connection.execute(query).fetchall()]

    def find(self, id: str) -> StoredBatch | None:
        """A batch of any owner."""
        with self._database.reading() as connection:
            return _find(connection, id)

    def begin(self, id: str, *, total: int, model: str | None) -> bool:
        """The input of a ``validating`` batch is valid: it is ``in_progress``, if True."""
        return self._move(
            id,
            "validating",
            "in_progress",
            in_progress_at=int(self._clock()),
            total=total,
            model=model,
        )

    def fail(
        self, id: str, problems: Iterable[tuple[str, str, int | None, str | None]]
    ) -> bool:
        """The input of a ``validating`` batch is not valid: it is ``failed``, if True.

        ``problems`` are as ``Problem``.
        """
        errors = msgspec.json.encode([Problem(*problem) for problem in problems]).decode()
        return self._move(
            id, "validating", "failed", failed_at=int(self._clock()), errors=errors
        )

    def done_lines(self, id: str) -> set[int]:
        """The numbers of the lines that have a result."""
        query = "SELECT line FROM results JOIN batches ON number = batch WHERE id = ?"
        with self._database.reading() as connection:
            return {row[0] for row in connection.execute(query, (id,))}

    def append(self, id: str, results: Iterable[Result]) -> int:
        """Keep the results of lines, and count them; returns how many of them are new.

        A line that has a result keeps it: a line that was run twice counts once. A batch that
        has ended takes none.
        """
        completed = failed = 0
        tokens = [0, 0, 0, 0]
        with self._database.writing() as connection:
            batch = _find(connection, id)
            if batch is None or not batch.is_open:
                return 0
            for result in results:
                row = batch.number, result.line, result.has_failed, result.data
                added = connection.execute(
                    "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)", row
                )
                if added.rowcount:
                    failed += result.has_failed
                    completed += not result.has_failed
                    tokens = [a + b for a, b in zip(tokens, result.tokens, strict=True)]
            connection.execute(_ADD, (completed, failed, *tokens, batch.number))
        return completed + failed

    def finalize(self, id: str) -> bool:
        """All lines of a batch ``in_progress`` have results: ``finalizing``, if True.

        ``finish`` follows. A batch cannot be cancelled any more.
        """
        return self._move(id, "in_progress", "finalizing", finalizing_at=int(self._clock()))

    def expire(self, id: str) -> None:
        """The time of an open batch is over: it ends as ``expired``, whoever ends it.

        The lines without an answer get results before ``finish``, so that their number cannot
        tell how a batch has to end.
        """
        with self._database.writing() as connection:
            batch = _find(connection, id)
            if batch is not None and batch.is_open and batch.expired_at is None:
                _update(connection, id, expired_at=int(self._clock()))

    def finish(self, id: str, status: EndStatus) -> StoredBatch | None:
        """Write the files of results in the order of the lines, then end an open batch.

        It can be called again after a crash: nothing is seen of an unfinished call. None if
        the batch is unknown or has ended.
        """
        batch = self.find(id)
        if batch is None or not batch.is_open:
            return None
        output, errors = (self._write(batch, has_failed) for has_failed in (False, True))
        written = [upload for upload in (output, errors) if upload is not None]
        now = int(self._clock())
        expires_at = now + (batch.output_seconds or self._keep_seconds)
        files = [
            Kept(
                upload,
                f"{id}_{'output' if upload is output else 'error'}.jsonl",
                _OUTPUT,
                expires_at,
            )
            for upload in written
        ]
        changes: dict[str, Any] = {
            "status": status,
            f"{status}_at": now,
            "output_file_id": output and output.id,
            "error_file_id": errors and errors.id,
        }

        def end(connection: sqlite3.Connection) -> None:
            _update(connection, id, **changes)
            connection.execute("DELETE FROM results WHERE batch = ?", (batch.number,))

        try:
            self.files.keep(files, end)
        except BaseException:
            for upload in written:
                upload.discard()
            raise
        with self._database.reading() as connection:
            connection.execute("PRAGMA incremental_vacuum").fetchall()
        return self.find(id)

    def clean(self) -> None:
        """Remove expired files and what crashes have left; to be called now and then."""
        self.files.clean()

    def _write(self, batch: StoredBatch, has_failed: bool) -> Upload | None:
        """Write the results that have failed, or the others, to a file; None: no result."""
        query = (
            "SELECT line, data FROM results WHERE batch = ? AND has_failed = ? AND line > ? "
            "ORDER BY line LIMIT 64"
        )
        upload, line = None, -1
        try:
            while True:
                with self._database.reading() as connection:
                    rows = connection.execute(
                        query, (batch.number, has_failed, line)
                    ).fetchall()
                if not rows:
                    return upload
                upload = upload or self.files.begin(batch.owner)
                for row in rows:
                    upload.write(row["data"] + b"\n")
                line = rows[-1]["line"]
        except BaseException:
            if upload is not None:
                upload.discard()
            raise

    def _move(self, id: str, old: BatchStatus, new: BatchStatus, **changes: object) -> bool:
        with self._database.writing() as connection:
            batch = _find(connection, id)
            if batch is None or batch.status != old:
                return False
            _update(connection, id, status=new, **changes)
            return True


def _find(connection: sqlite3.Connection, id: str) -> StoredBatch | None:
    query = f"SELECT {_COLUMNS} FROM batches WHERE id = ?"
    row = connection.execute(query, (id,)).fetchone()
    return None if row is None else _batch_of(row)


def _update(connection: sqlite3.Connection, id: str, **changes: object) -> None:
    names = ", ".join(f"{name} = ?" for name in changes)
    connection.execute(f"UPDATE batches SET {names} WHERE id = ?", (*changes.values(), id))


def _batch_of(row: sqlite3.Row) -> StoredBatch:
    values = {name: row[name] for name in StoredBatch.__struct_fields__}
    values["metadata"] = msgspec.json.decode(values["metadata"])
    values["errors"] = msgspec.json.decode(values["errors"], type=list[Problem])
    return StoredBatch(**values)
