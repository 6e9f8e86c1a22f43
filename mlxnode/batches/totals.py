"""How much is in the store: open batches, and the bytes of files. Another process may write."""

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from mlxnode.batches.database import database_file
from mlxnode.batches.rows import OPEN

_TIMEOUT = 1.0  # seconds to wait while another process writes
_OPEN = ", ".join(f"'{status}'" for status in OPEN)


class Totals(msgspec.Struct, frozen=True):
    """Of all keys. ``num_open``: batches by status; ``num_left``: their lines without a result.

    ``stored_bytes`` are those of all files, unfinished ones included.
    """

    num_open: dict[str, int]
    num_left: int
    stored_bytes: int


def read_totals(folder: Path) -> Totals:
    """The totals of the store in ``folder``; nothing is made there if it is empty.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    num_open: dict[str, int] = dict.fromkeys(OPEN, 0)
    num_left = stored = 0
    path = database_file(folder).absolute()
    if not path.exists():
        return Totals(num_open, num_left, stored)
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT)
    with contextlib.closing(connection):
        rows = connection.execute(
            "SELECT status, COUNT(*), SUM(total - completed - failed) FROM batches "
            f"WHERE status IN ({_OPEN}) GROUP BY status"
        )
        for status, number, left in rows:
            num_open[status] = number
            num_left += left
        [stored] = connection.execute("SELECT COALESCE(SUM(bytes), 0) FROM files").fetchone()
    return Totals(num_open, num_left, stored)
