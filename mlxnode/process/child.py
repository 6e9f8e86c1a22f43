"""One child of the supervisor, through all its generations."""

import importlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from mlxnode.messages import ChildToSupervisor, Message
from mlxnode.process.pipe import Pipe

log = logging.getLogger("mlxnode.process.supervisor")

PING_INTERVAL = 1.0  # seconds
FIRST_BACKOFF = 0.1  # seconds before a dead child is started again, doubled each time
MAX_BACKOFF = 30.0
START_TIMEOUT = 900.0  # seconds without a word of progress until a child that loads is hung
STABLE_AFTER = 60.0  # seconds after which a death is no continuation of the last one

# Fork and Metal do not mix, and a spawned process holds no descriptor but its own.
_spawn = multiprocessing.get_context("spawn")

# What the child said, or None when its control pipe closed: it is dead or dying.
OnMessage = Callable[["Child", int, ChildToSupervisor | None], None]


class Child:
    """A process that is started, watched and started again.

    ``entry`` is ``"module:function"``; the function is called with the child's end of the
    control pipe and ``arguments``.
    """

    def __init__(self, name: str, entry: str, arguments: tuple, on_message: OnMessage):
        self.name = name
        self._entry = entry
        self._arguments = arguments
        self._on_message = on_message
        self.generation = 0
        self.is_ready = False
        self.was_ever_ready = False
        self.restart_at: float | None = None  # on the monotonic clock
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._backoff = FIRST_BACKOFF
        self._started_at = 0.0
        self._heard_at = 0.0
        self._pinged_at = 0.0

    @property
    def is_alive(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start a new generation.

        Raises:
            OSError: no process or descriptor is to be had, maybe for the moment.
        """
        self.generation += 1
        self.restart_at = None
        self._started_at = self._heard_at = time.monotonic()
        generation = self.generation
        ours, theirs = _spawn.Pipe(duplex=True)
        with theirs:  # closed here, or the child's end of the pipe would outlive it
            process = _spawn.Process(
                target=_run, args=(self._entry, theirs, *self._arguments), name=self.name
            )
            process.start()
        self._process = process
        self._pipe = Pipe(
            ours,
            ChildToSupervisor,
            on_message=lambda message: self._on_message(self, generation, message),
            on_close=lambda: self._on_message(self, generation, None),
            name=self.name,
        ).start()
        log.info("%s started (pid %d)", self.name, self.pid)

    def send(self, message: Message, fd: int | None = None) -> None:
        if self._pipe is not None:
            self._pipe.send(message, fd)

    def mark_ready(self) -> None:
        self.is_ready = self.was_ever_ready = True
        self._heard_at = time.monotonic()

    def heard(self) -> None:
        """It gave a sign of life."""
        self._heard_at = time.monotonic()

    def is_ping_due(self, now: float) -> bool:
        if not self.is_ready or now - self._pinged_at < PING_INTERVAL:
            return False
        self._pinged_at = now
        return True

    def is_hung(self, now: float, timeout: float) -> bool:
        """Whether it has been silent for too long; loading may take much longer."""
        limit = timeout if self.is_ready else max(timeout, START_TIMEOUT)
        return self.is_alive and now - self._heard_at > limit

    def kill(self) -> None:
        """End it at once; its control pipe closes, and its death is handled from there."""
        self.is_ready = False
        if self._process is not None:
            self._process.kill()

    def reap(self) -> str:
        """Collect the dead process; returns how it ended, in words."""
        assert self._process is not None and self._pipe is not None
        self._process.join(timeout=5)
        if self._process.exitcode is None:  # it closed its pipe, yet does not end
            self._process.kill()
            self._process.join()
        code, pid = self._process.exitcode, self._process.pid
        self._process.close()
        self._process = self._pipe = None
        self.is_ready = False
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{self.name} (pid {pid}) ended: {how}"

    def schedule_restart(self) -> float:
        """Plan the next generation; returns the seconds until then."""
        now = time.monotonic()
        if now - self._started_at > STABLE_AFTER:
            self._backoff = FIRST_BACKOFF
        delay, self._backoff = self._backoff, min(2 * self._backoff, MAX_BACKOFF)
        self.restart_at = now + delay
        return delay


def _run(entry: str, control: Connection, *arguments: object) -> None:
    """The child's main function; imported here, so that the supervisor never does."""
    # Before the imports, which take a while: the supervisor alone ends its children.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(control, *arguments)
