"""Keeps a Mac awake while requests run: macOS sleeps although a server works."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Hashable

log = logging.getLogger("mlxnode.supervisor")

COMMAND = "caffeinate"  # of macOS; there is no such command elsewhere, and no need for one
RELEASE_AFTER = 5.0  # seconds without a request, so that the command is not started for each
FIRST_BACKOFF = 5.0  # seconds before a command that ended by itself is started again, doubled
MAX_BACKOFF = 300.0


class SleepBlocker:
    """Holds ``caffeinate`` while requests run. A failure costs a line in the log, no more."""

    def __init__(self):
        self._command = _find_command()
        self._process: subprocess.Popen[bytes] | None = None
        self._busy_at = -RELEASE_AFTER  # when requests ran last, on the caller's clock
        self._startable_at = 0.0
        self._backoff = FIRST_BACKOFF
        if self._command is None and sys.platform == "darwin":
            log.warning("there is no %s: this Mac may sleep while requests run", COMMAND)

    def update(self, is_busy: bool, now: float) -> None:
        """Start, watch or end the command. To be called often: nothing else acts."""
        if self._command is None:
            return
        if is_busy:
            self._busy_at = now
        if self._process is not None and self._process.poll() is not None:
            log.warning("%s ended: %d", COMMAND, self._process.returncode)
            self._process = None
        if now - self._busy_at >= RELEASE_AFTER:
            self.release()
            self._backoff, self._startable_at = FIRST_BACKOFF, now
        elif is_busy and self._process is None and now >= self._startable_at:
            self._startable_at = now + self._backoff
            self._backoff = min(2 * self._backoff, MAX_BACKOFF)
            self._start(self._command)

    def release(self) -> None:
        """Let the machine sleep again."""
        if self._process is not None:
            self._process.kill()  # it has nothing to put in order
            self._process.wait()
            self._process = None

    def _start(self, command: str) -> None:
        # -i: no sleep for lack of a user. -w: the command ends with this process, however that
        # ends. In a session of its own, the signals of a terminal do not reach it.
        try:
            self._process = subprocess.Popen(
                [command, "-i", "-w", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log.warning("%s cannot be started: %s", command, error.strerror)
        else:
            log.debug("%s started (pid %d)", command, self._process.pid)


class WakeWhileBusy:
    """Which workers have running requests, and the machine that stays awake for them."""

    def __init__(self, *, is_enabled: bool):
        self._workers: set[Hashable] = set()
        self._blocker = SleepBlocker() if is_enabled else None

    def note(self, worker: Hashable, *, is_busy: bool) -> None:
        """The worker has requests from now on, or none any more."""
        (self._workers.add if is_busy else self._workers.discard)(worker)

    def update(self, now: float) -> None:
        """To be called often; ``now`` is the caller's clock."""
        if self._blocker is not None:
            self._blocker.update(bool(self._workers), now)

    def release(self) -> None:
        """Let the machine sleep again."""
        if self._blocker is not None:
            self._blocker.release()


def _find_command() -> str | None:
    """The path of the system's own command, else of one on PATH; None if there is none."""
    path = os.pathsep.join(["/usr/bin", os.environ.get("PATH", os.defpath)])
    return shutil.which(COMMAND, path=path)
