"""The usage of each key over time: one small SQLite file, with a row a day, key and model.

The number of rows is bounded: keys and models come from the configuration. Several nodes can
write to one file, because each adds to what is there.
"""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import msgspec

from mlxnode.errors import UsageError

Column = Literal["day", "key", "model"]
COLUMNS: tuple[Column, ...] = ("day", "key", "model")

_VERSION = 1  # of the table
_BUSY_TIMEOUT = 2.0  # seconds to wait while another process writes
_TABLE = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, key, model)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, key, model) DO UPDATE SET
    requests = requests + excluded.requests,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_KEEP = """
DELETE FROM usage
WHERE day < (SELECT DISTINCT day FROM usage ORDER BY day DESC LIMIT 1 OFFSET ?)
"""


class Place(NamedTuple):
    """Where a request counts: the day (UTC, as 2026-01-31), the id of its key, its model."""

    day: str
    key: str
    model: str


class Sums(NamedTuple):
    """The cached tokens are a part of the prompt tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: "Sums") -> "Sums":
        return Sums(*map(sum, zip(self, other, strict=True)))


class UsageRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The sums of all requests of one day, key and model; None: of all of them."""

    day: str | None = None
    key: str | None = None
    model: str | None = None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def sums(self) -> Sums:
        return Sums(
            self.requests, self.prompt_tokens, self.cached_tokens, self.completion_tokens
        )


def usage_path(configured: str | None) -> Path | None:
    """The usage file: as configured, else in mlxnode's state folder; None for ``""``.

    The cache folder is no place for it: macOS and users empty caches.

    Raises:
        UsageError: the user has no home folder.
    """
    if configured is not None:
        return Path(configured) if configured else None
    try:
        return state_folder() / "usage.sqlite"
    except RuntimeError as error:
        raise UsageError(f"server.usage_file has no default here: {error}") from error


def open_usage(path: Path) -> sqlite3.Connection:
    """Open the file for ``add_usage``; makes it, for this user alone, if there is none.

    What is committed outlives the process, not a failure of power: nothing waits for the disk.

    Raises:
        OSError: the folder or the file cannot be made.
        sqlite3.Error: this is no usage file, or it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's own files get its mode
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version_of(connection) == 0:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def add_usage(connection: sqlite3.Connection, sums: Iterable[tuple[Place, Sums]]) -> None:
    """Add all ``sums`` to what the file has, or none of them.

    Raises:
        sqlite3.Error: the file cannot be written now.
    """
    with connection:
        connection.executemany(_ADD, [(*place, *added) for place, added in sums])


def keep_days(connection: sqlite3.Connection, count: int) -> None:
    """Keep the ``count`` newest days that have any usage.

    They are counted in the file: a clock that is wrong for a while removes no more days than
    it adds.

    Raises:
        sqlite3.Error: the file cannot be written now.
    """
    with connection:
        connection.execute(_KEEP, (count - 1,))


def read_usage(
    path: Path,
    *,
    first: str = "",
    last: str = "9999-12-31",
    key: str | None = None,
    model: str | None = None,
    by: Sequence[Column] = COLUMNS,
) -> list[UsageRow]:
    """The usage from day ``first`` to ``last``, of one key and model or of all, sorted.

    One row for each combination of the columns ``by``, which are one or more; no row if there
    is no file.

    Raises:
        UsageError: the file cannot be read, or is no usage file.
    """
    names = [column for column in COLUMNS if column in by]
    columns = ", ".join(names)
    query = (
        f"SELECT {columns}, SUM(requests), SUM(prompt_tokens), SUM(cached_tokens), "
        "SUM(completion_tokens) FROM usage WHERE day BETWEEN ? AND ? "
        "AND key = COALESCE(?, key) AND model = COALESCE(?, model) "
        f"GROUP BY {columns} ORDER BY {columns}"
    )
    try:
        with _reading(path) as connection:
            if _version_of(connection) == 0:  # the node has only begun to make it
                return []
            rows = connection.execute(query, (first, last, key, model)).fetchall()
    except FileNotFoundError:
        return []
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"the usage file {path} cannot be read: {error}") from error
    fields = [*names, *Sums._fields]
    return [UsageRow(**dict(zip(fields, row, strict=True))) for row in rows]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    path.stat()  # its errors say more than SQLite's
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)
    try:
        yield connection
    finally:
        connection.close()


def _version_of(connection: sqlite3.Connection) -> int:
    """The version of the table; 0 if there is none yet.

    Raises:
        sqlite3.DatabaseError: the file is of a later version of mlxnode.
    """
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.DatabaseError(f"it has version {version} of the table, not {_VERSION}")
    return version


def state_folder() -> Path:
    """``$MLXNODE_STATE``, else the platform's folder for what mlxnode keeps.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if own := os.environ.get("MLXNODE_STATE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/mlxnode").expanduser()
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "mlxnode"
