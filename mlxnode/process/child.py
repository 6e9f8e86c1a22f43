"""One child process of the supervisor, through all its incarnations."""

import importlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from mlxnode.messages.control import ChildToSupervisor
from mlxnode.messages.message import Message
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import PulsingConnection
from mlxnode.process.signals import held_signals, ignore_signals

log = logging.getLogger("mlxnode.supervisor")

PING_INTERVAL = 1.0  # seconds
FIRST_BACKOFF = 0.1  # seconds before a dead child is started again, doubled each time
MAX_BACKOFF = 30.0
SILENT_AFTER = 3.5  # seconds without an answer after which a ready child counts as silent
LOAD_SILENCE = 20.0  # seconds that a child that loads can be silent, whatever hang_timeout says
START_TIMEOUT = 900.0  # seconds between two lines of progress of a child that loads
STABLE_AFTER = 60.0  # seconds of life after which the next death starts at FIRST_BACKOFF
END_TIMEOUT = 5.0  # seconds between the end of the control pipe and the end of the process

# Fork and Metal do not mix, and a spawned process inherits no file descriptors.
_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class ChildEvent:
    """A message of one incarnation of a child.

    ``message`` is None if the control pipe closed: the child is dead or dying.
    """

    child: "Child"
    incarnation: int
    message: ChildToSupervisor | None

    @property
    def is_current(self) -> bool:
        """False if the incarnation has been reaped since."""
        return self.child.is_alive and self.incarnation == self.child.incarnation


class Child:
    """A process that is started, watched and started again.

    ``entry`` is ``"module:function"``. The child process calls the function with its end of
    the control pipe and ``arguments``. ``on_event`` is called on a reader thread.
    """

    def __init__(
        self,
        name: str,
        entry: str,
        arguments: tuple[object, ...],
        on_event: Callable[[ChildEvent], None],
    ):
        self.name = name
        self._entry = entry
        self.arguments = arguments  # of the next incarnation
        self._on_event = on_event
        self.incarnation = 0  # the number of starts
        self.is_ready = False
        self.was_ever_ready = False
        self.became_ready = False  # this incarnation, or the last one
        self.restart_at: float | None = None  # on the monotonic clock
        self._running: _Running | None = None
        self._backoff = FIRST_BACKOFF
        self.started_at = 0.0  # of this incarnation, on the monotonic clock
        self._heard_at = 0.0
        self._progressed_at = 0.0
        self._pinged_at = 0.0

    @property
    def is_alive(self) -> bool:
        """True from the start of an incarnation until ``reap``."""
        return self._running is not None

    @property
    def pid(self) -> int | None:
        """Of the current incarnation; None if there is none."""
        return None if self._running is None else self._running.process.pid

    def start(self) -> None:
        """Start a new incarnation.

        Raises:
            OSError: the system has no process or no descriptor left, perhaps only for now.
        """
        self.incarnation += 1
        self.restart_at = None
        self.became_ready = False
        self.started_at = self._heard_at = self._progressed_at = time.monotonic()
        incarnation = self.incarnation
        ours, theirs = _spawn.Pipe(duplex=True)
        with theirs:  # an open copy of the child's end would hide the death of the child
            process = _spawn.Process(
                target=_run, args=(self._entry, theirs, *self.arguments), name=self.name
            )
            with held_signals():
                resource_tracker.ensure_running()  # which lets go of some signals
            with held_signals():
                process.start()
        pipe = Pipe(
            ours,
            ChildToSupervisor,
            on_message=lambda message: self._on_event(ChildEvent(self, incarnation, message)),
            on_close=lambda: self._on_event(ChildEvent(self, incarnation, None)),
            name=self.name,
        )
        self._running = _Running(process, pipe)
        pipe.start()
        log.info("%s started (pid %d)", self.name, process.pid)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send a message, and a file descriptor with it. A dead child gets nothing."""
        if self._running is not None:
            self._running.pipe.send(message, fd)

    def sender(self) -> Callable[[Message], bool]:
        """Sends to this incarnation and to no later one, from any thread."""
        running = self._running
        return (lambda message: False) if running is None else running.pipe.send

    def mark_ready(self) -> None:
        self.is_ready = self.became_ready = self.was_ever_ready = True
        self.mark_heard()

    def mark_heard(self) -> None:
        """Note a sign of life."""
        self._heard_at = time.monotonic()

    def mark_progress(self, *, is_told: bool) -> None:
        """Note that a child that loads works, and if ``is_told``, that it says on what."""
        self.mark_heard()
        if is_told:
            self._progressed_at = self._heard_at

    def is_ping_due(self, now: float) -> bool:
        """True once per ``PING_INTERVAL`` while the child is ready."""
        if not self.is_ready or now - self._pinged_at < PING_INTERVAL:
            return False
        self._pinged_at = now
        return True

    def is_hung(self, now: float, timeout: float) -> bool:
        """True if the child has been silent for too long.

        A child that loads shows life as long as it works. It may do so for a time, then it has
        to say how far it is.
        """
        silence = now - self._heard_at
        if self.is_ready or not self.is_alive:
            return self.is_alive and silence > timeout
        is_stuck = now - self._progressed_at > max(timeout, START_TIMEOUT)
        return is_stuck or silence > max(timeout, LOAD_SILENCE)

    def silence(self, now: float) -> float | None:
        """The seconds since a ready child has answered; None if they are few."""
        seconds = now - self._heard_at
        return seconds if self.is_ready and seconds > SILENT_AFTER else None

    def kill(self) -> None:
        """Kill the process. Its control pipe then closes, which makes the last event."""
        self.is_ready = False
        if self._running is not None:
            self._running.process.kill()

    def give_up(self, why: str) -> None:
        """Kill a child that cannot start now, though it could before: it is started again."""
        log.error("%s: %s", self.name, why)
        self.kill()

    def reap(self) -> str:
        """Collect the process that is dead or dying; returns how it ended, in words."""
        running, self._running = self._running, None
        self.is_ready = False
        if running is None:
            return f"{self.name} is not running"
        return f"{self.name} {running.reap()}"

    def schedule_restart(self, *, at_once: bool = False) -> float:
        """Plan the next incarnation; returns the seconds until then.

        ``at_once``: this death is no reason to wait longer for the next.
        """
        now = time.monotonic()
        if at_once or now - self.started_at > STABLE_AFTER:
            self._backoff = FIRST_BACKOFF
        delay, self._backoff = self._backoff, min(2 * self._backoff, MAX_BACKOFF)
        self.restart_at = now + delay
        return delay


@dataclass(frozen=True)
class _Running:
    """The process of the current incarnation, and the supervisor's end of its control pipe."""

    process: BaseProcess
    pipe: Pipe

    def reap(self) -> str:
        """Wait for the end of the process, or force it; returns how the process ended."""
        self.process.join(timeout=END_TIMEOUT)
        while (code := self.process.exitcode) is None:  # its pipe is closed, yet it lives
            self.process.kill()
            self.process.join()
        pid = self.process.pid
        self.process.close()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"(pid {pid}) ended: {how}"


def _run(entry: str, control: Connection, *arguments: object) -> None:
    """The main function of the child process."""
    ignore_signals()  # before the imports, which take a while
    control = PulsingConnection(control)
    # Imported here: the supervisor must not import the child's modules.
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(control, *arguments)
