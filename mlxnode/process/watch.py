"""Reads the configuration again: when its files change, and when somebody asks for it."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from mlxnode.config.file import LoadedConfig
from mlxnode.errors import NodeError, reason_of
from mlxnode.models.resolve import resolve_each
from mlxnode.process.changes import NodeModels, changes, model_changes
from mlxnode.process.downloads import Downloads

log = logging.getLogger("mlxnode.supervisor")

INTERVAL = 1.0  # seconds between two looks at the files
# Who asks this soon after the watch has read a change by itself means that change.
RECENT = 10.0  # seconds

Answer = Future[list[str]]  # the changes, or a NodeError that says why there are none


@dataclass(frozen=True)
class Reload:
    """A configuration that counts from now on. ``answers`` wait until it does."""

    loaded: LoadedConfig
    models: NodeModels
    changes: list[str]
    answers: list[Answer] = field(default_factory=list)

    def confirm(self) -> None:
        """Tell those who asked that the changes count."""
        for answer in self.answers:
            answer.set_result(self.changes)

    def refuse(self, error: NodeError) -> None:
        """Tell those who asked why the changes do not count."""
        for answer in self.answers:
            answer.set_exception(error)


class ConfigWatch:
    """Reads the configuration again when one of its files has changed, on a thread of its own.

    A file is read once it has been the same for two looks, so that no half-written one counts.
    What cannot be used changes nothing; it is looked at until it can.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        models: NodeModels,
        load: Callable[[], LoadedConfig],
        interval: float = INTERVAL,
    ):
        """``load`` reads the configuration that has been read as ``loaded``.

        ``models`` are those of ``loaded``. ``load`` finds the models on the disk, too.
        """
        self._loaded = loaded
        self._models = models
        self._start = loaded.config
        self._load = load
        self._interval = interval
        self._read_state = self._seen_state = _state_of(loaded.files)
        self._problem = ""  # why the files could not be used, when they were last read
        self._downloads = Downloads(self._on_download)
        self._held: list[Answer] = []  # until the downloads have ended
        self._told: list[str] = []  # the changes since the first of these
        self._unasked: list[str] = []  # the last changes that nobody had asked for
        self._unasked_at = -RECENT
        self._has_new_files = False
        self._asked: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._is_asked = threading.Event()
        self._on_change: Callable[[Reload], None] = lambda reload: reload.confirm()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self, on_change: Callable[[Reload], None]) -> None:
        """Call ``on_change`` with each new configuration, on the thread of the watch.

        It confirms or refuses the reload, on any thread.
        """
        self._on_change = on_change
        self._thread.start()

    def ask(self) -> Answer:
        """Read the files now, whether or not they have changed, and look at the disk."""
        answer: Answer = Future()
        self._asked.put(answer)
        self._is_asked.set()
        return answer

    def _watch(self) -> None:
        while True:
            self._is_asked.wait(self._interval)
            self._is_asked.clear()
            self.look()

    def look(self) -> None:
        """Look at the files once, and read them if they have changed, or if that is asked."""
        answers = self._take_asked()
        state = _state_of(self._loaded.files)
        is_settled, self._seen_state = state == self._seen_state, state
        has_changed = state != self._read_state or self._problem
        if answers or (has_changed and is_settled):
            self._downloads.forget_failures()
        elif not self._has_new_files:
            return
        self._has_new_files = False
        self._read_state = state
        self._read(answers)

    def _on_download(self) -> None:
        self._has_new_files = True
        self._is_asked.set()

    def _take_asked(self) -> list[Answer]:
        answers = []
        while not self._asked.empty():
            answers.append(self._asked.get())
        return answers

    def _read(self, answers: list[Answer]) -> None:
        try:
            loaded = self._load()
            found = resolve_each(
                loaded.config, log.info, folder=loaded.folder, fetch=self._downloads.files_of
            )
        except Exception as error:  # whatever the files hold, the node goes on
            self._keep(error, answers)
            return
        models = NodeModels(found.models, found.failed, loaded.aliases)
        before, self._loaded, self._problem = self._loaded, loaded, ""
        old, self._models = self._models, models
        if loaded.files != before.files:
            self._read_state = []  # read once more: a new file can have changed meanwhile
        new = [*changes(before, loaded, self._start), *model_changes(old, models)]
        if new or answers:
            log.info("%s: read again: %s", loaded.where, "; ".join(new) or "nothing is new")
        for warning in set(loaded.warnings) - set(before.warnings):
            log.warning("%s: %s", loaded.where, warning)
        if new and not answers:
            self._unasked, self._unasked_at = new, time.monotonic()
        self._hand_over(loaded, models, new, answers)

    def _keep(self, error: Exception, answers: list[Answer]) -> None:
        """The configuration cannot be used: all stays as it is."""
        problem = reason_of(error)
        if answers or problem != self._problem:
            log.warning("the configuration stays as it is: %s", problem)
        self._problem = problem
        for answer in [*self._held, *answers]:
            answer.set_exception(error)
        self._held = []

    def _hand_over(
        self, loaded: LoadedConfig, models: NodeModels, new: list[str], answers: list[Answer]
    ) -> None:
        """Who has asked is answered once all models are there, and told of all changes."""
        self._held += answers
        self._told += new
        reload = Reload(loaded, models, [])
        if not (self._downloads.is_busy or self._has_new_files):
            reload = Reload(loaded, models, self._told or self._just_read(), self._held)
            self._held, self._told = [], []
        if new:
            self._on_change(reload)
        else:
            reload.confirm()

    def _just_read(self) -> list[str]:
        """What the watch has read by itself a moment ago."""
        if time.monotonic() - self._unasked_at > RECENT:
            return []
        return [f"already read: {change}" for change in self._unasked]


def _state_of(files: list[Path]) -> list[tuple[int, ...] | None]:
    """What changes with the contents of a file and with its owner; None: no such file."""
    return [_state(file) for file in files]


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)
