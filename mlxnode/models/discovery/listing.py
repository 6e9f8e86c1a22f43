"""Lists folders of unknown content in bounded work."""

import itertools
import os
import time
from pathlib import Path
from typing import NamedTuple

from mlxnode.errors import ModelError

_MAX_ENTRIES = 10_000  # of one folder
_MAX_TOTAL = 100_000  # of all folders of one search
TIMEOUT = 30.0  # seconds for one search: the next one goes on with what is cached by then


class Entry(NamedTuple):
    """One entry of a folder; links are followed."""

    path: Path
    is_folder: bool

    @property
    def name(self) -> str:
        return self.path.name


class Lister:
    """Lists folders until the work of one search is done."""

    def __init__(self, timeout: float = TIMEOUT):
        self._left = _MAX_TOTAL
        self._deadline = time.monotonic() + timeout

    @property
    def is_late(self) -> bool:
        """True if the time of this search is over."""
        return time.monotonic() > self._deadline

    def list(self, folder: Path) -> list[Entry]:
        """The entries of ``folder`` by name, without hidden ones.

        Raises:
            ModelError: it cannot be read, or there are too many.
        """
        if self.is_late:
            raise ModelError(
                "not looked into: the search took too long; `mlxnode reload` goes on"
            )
        if self._left <= 0:
            raise ModelError(f"not looked into, after {_MAX_TOTAL:,} files and folders")
        try:
            with os.scandir(folder) as found:
                entries = [
                    Entry(folder / entry.name, _is_folder(entry))
                    for entry in itertools.islice(found, _MAX_ENTRIES + 1)
                    if not entry.name.startswith(".")
                ]
        except OSError as error:
            raise ModelError(f"it cannot be read: {error.strerror}") from error
        if len(entries) > _MAX_ENTRIES:
            raise ModelError(f"it has more than {_MAX_ENTRIES:,} files and folders")
        self._left -= len(entries)
        return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False
