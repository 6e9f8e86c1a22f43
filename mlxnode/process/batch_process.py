"""The process that runs batches: it exists while there are batches to run.

The node serves without it, so no death of it ends the node. A worker says that there may be
work (``Wake``); the start of a node that has files starts it as well. The process says whether
it has work (``Busy``): if it has none, it is told to stop.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from mlxnode.config.tables import BatchesConfig, NodeConfig
from mlxnode.errors import UsageError
from mlxnode.messages.control import Busy, ChildToSupervisor, Pong, Progress, Ready, Stop, Wake
from mlxnode.process.child import Child, ChildEvent
from mlxnode.process.liveness import Liveness
from mlxnode.process.usage_file import state_folder

log = logging.getLogger("mlxnode.supervisor")

BATCHES = "mlxnode.batches.entry:run_batches"


def batches_folder(config: BatchesConfig) -> Path:
    """The folder of files and batches: as configured, else in mlxnode's state folder.

    Raises:
        UsageError: the user has no home folder.
    """
    try:
        if config.folder is not None:
            return Path(config.folder).expanduser()
        return state_folder() / "batches"
    except RuntimeError as error:
        raise UsageError(f"server.batches.folder: {error}") from error


class BatchProcess:
    """Starts, wakes, watches and ends the process. The supervisor's loop calls all methods."""

    def __init__(
        self, config: NodeConfig, on_event: Callable[[ChildEvent], None], entry: str = BATCHES
    ):
        self._config = config
        self.child = Child("batches", entry, (), on_event)
        self._liveness = Liveness([self.child], config.server.hang_timeout)
        self._is_open = False  # from the start of the node to its end
        self._is_wanted = False  # there may be work

    @property
    def children(self) -> list[Child]:
        """The process, if it exists or is to be started again."""
        return [self.child] if self.child.is_alive or self.child.restart_at else []

    def open(self, socket_path: Path | None) -> None:
        """Run batches from now on, over the inner socket at ``socket_path``; None: never."""
        if socket_path is None:
            return
        self.child.arguments = (self._config, socket_path)
        self._is_open = True
        try:
            has_some = any(batches_folder(self._config.server.batches).iterdir())
        except (OSError, UsageError):
            has_some = False
        if has_some:
            self.wake()

    def wake(self) -> None:
        """There may be work."""
        self._is_wanted = True
        if self.child.is_alive:
            self.child.send(Wake())
        elif self._is_open and self.child.restart_at is None:
            self._start()

    def take(self, message: ChildToSupervisor | None) -> None:
        """Act on a message of the process; None: it has ended."""
        match message:
            case None:
                self._on_death(self.child.reap())
            case Ready():
                self.child.mark_ready()
            case Pong():
                self.child.mark_heard()
            case Progress():
                self.child.mark_progress(is_told=False)
            case Busy(is_busy):
                # What has woken the process since it said so reaches it before the stop: then
                # it says that it is busy, and is started again.
                self._is_wanted = is_busy
                if not is_busy:
                    self.child.send(Stop())

    def update(self, now: float) -> None:
        """Start the process when it is time, and kill it if it does not answer."""
        if self.child.restart_at is not None and now >= self.child.restart_at:
            self._start()
        self._liveness.update(now)

    def end(self) -> None:
        """Let the process leave its work for the next start of the node."""
        self._is_open = False
        self.child.restart_at = None
        self.child.send(Stop())

    def kill(self) -> None:
        """End the process now."""
        self.end()
        self.child.kill()
        self.child.reap()

    def _start(self) -> None:
        try:
            self.child.start()
        except OSError as error:
            self._start_again(f"batches cannot be started: {error.strerror}")

    def _on_death(self, how: str) -> None:
        if self._is_open and self._is_wanted:
            self._start_again(how)
        else:
            log.info("%s", how)

    def _start_again(self, why: str) -> None:
        delay = self.child.schedule_restart()
        log.warning("%s; starting it again in %.1f s", why, delay)
