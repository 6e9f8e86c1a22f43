"""Finds out, while the node serves, which of its models fit into memory.

A process of low priority traces one model after the other (``weigh_helper``). If the files of
one end that process, another one goes on with the rest.
"""

import contextlib
import logging
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import NamedTuple

import msgspec

from mlxnode.config.tables import EngineConfig
from mlxnode.messages.message import encode
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.process.helper_process import start_helper

log = logging.getLogger("mlxnode.supervisor")

TIMEOUT = 120.0  # seconds for one model, the start of the process included
_MAX_ANSWER = 1 << 20  # bytes
_HELPER = "mlxnode.process.weigh_helper"
_UNKNOWN = "it is not known whether it fits: the process that looked at its files "


class _Helper(NamedTuple):
    process: "subprocess.Popen[bytes]"
    connection: Connection


class FitWeigher:
    """Weighs models on a thread of its own, each as if it were alone in memory."""

    def __init__(
        self, config: EngineConfig, *, helper: str = _HELPER, timeout: float = TIMEOUT
    ):
        self._config = config
        self._helper = helper
        self._timeout = timeout
        self._on_verdict: Callable[[ServedModel, Weighed], None] = lambda model, weighed: None
        self._lock = threading.Lock()
        self._wanted: deque[ServedModel] = deque()
        self._is_running = self._is_closed = False
        self._processes: list[subprocess.Popen[bytes]] = []  # one, or two for a moment

    def start(self, on_verdict: Callable[[ServedModel, Weighed], None]) -> None:
        """Call ``on_verdict`` with each verdict from now on, on the thread of the weigher."""
        self._on_verdict = on_verdict

    def weigh(self, models: Iterable[ServedModel]) -> None:
        """Weigh these from now on, and none of those before that are left."""
        with self._lock:
            self._wanted = deque(models)
            if self._wanted and not self._is_running and not self._is_closed:
                self._is_running = True
                threading.Thread(target=self._run, name="fits", daemon=True).start()

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._is_closed = True
            self._wanted.clear()
            for process in self._processes:
                process.kill()

    def _next(self) -> ServedModel | None:
        with self._lock:
            if self._wanted and not self._is_closed:
                return self._wanted.popleft()
            self._is_running = False
            return None

    def _run(self) -> None:
        helper: _Helper | None = None
        try:
            while (model := self._next()) is not None:
                try:
                    helper = helper or self._start_helper()
                    weighed = self._ask(helper.connection, model)
                except OSError as error:  # there is no process to be had, now
                    log.info("the fit of models is not known: %s", error)
                    weighed = Weighed("?", f"{_UNKNOWN}cannot be started", True)
                if weighed is None:
                    self._end(helper)
                    helper = None
                self._on_verdict(model, weighed or Weighed("?", f"{_UNKNOWN}has died", True))
        finally:
            self._end(helper)

    def _start_helper(self) -> _Helper:
        process, ours = start_helper(self._helper)
        connection = Connection(ours.detach())
        with self._lock:
            self._processes.append(process)
            if self._is_closed:
                process.kill()
        with contextlib.suppress(OSError):  # it is dead already: the next answer says so
            connection.send_bytes(self._config.model_dump_json().encode())
        return _Helper(process, connection)

    def _ask(self, connection: Connection, model: ServedModel) -> Weighed | None:
        """The verdict; None if the process has died, or takes too long."""
        try:
            connection.send_bytes(encode(model))
            if not connection.poll(self._timeout):
                return None
            return msgspec.msgpack.decode(connection.recv_bytes(_MAX_ANSWER), type=Weighed)
        except (OSError, EOFError, msgspec.DecodeError):
            return None

    def _end(self, helper: _Helper | None) -> None:
        """End the process of this run; that of the next one may be there already."""
        if helper is None:
            return
        helper.connection.close()
        with self._lock:
            self._processes.remove(helper.process)
        helper.process.kill()
        helper.process.wait()
