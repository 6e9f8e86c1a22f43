"""Fetches models while the node runs, each on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from mlxnode.errors import ModelError, reason_of
from mlxnode.models.files import (
    ModelFiles,
    Progress,
    can_be_fetched,
    fetch_files,
    find_files,
)

log = logging.getLogger("mlxnode.supervisor")

_NOT_YET = "it is being downloaded"


class Downloads:
    """Models that are fetched, and why some could not be. ``on_end`` is called after each.

    One thread asks for files; ``on_end`` is called on others.
    """

    def __init__(self, on_end: Callable[[], None]):
        self._on_end = on_end
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._failed: dict[str, str] = {}

    @property
    def is_busy(self) -> bool:
        """True if any model is being fetched."""
        with self._lock:
            return bool(self._running)

    def forget_failures(self) -> None:
        """Fetch once more what could not be fetched."""
        with self._lock:
            self._failed.clear()

    def files_of(self, path: str, base: Path, progress: Progress) -> ModelFiles:
        """The files of the model at ``path``; what is not on the disk is fetched from now on.

        Raises:
            ModelError: the path is no model, or the model is not there yet.
        """
        found = find_files(path, base)
        if found is not None:
            return found
        if not can_be_fetched(path):
            return fetch_files(path, base, progress)  # which says so
        with self._lock:
            if (reason := self._failed.get(path)) is not None:
                raise ModelError(reason)
            if path not in self._running:
                self._running.add(path)
                threading.Thread(
                    target=self._fetch, args=(path, base, progress), daemon=True
                ).start()
        raise ModelError(_NOT_YET)

    def _fetch(self, path: str, base: Path, progress: Progress) -> None:
        reason = None
        try:
            fetch_files(path, base, progress)
        except Exception as error:  # of any type, from libraries and servers of others
            reason = reason_of(error)
        with self._lock:
            self._running.discard(path)
            if reason is not None:
                self._failed[path] = reason
        self._on_end()
