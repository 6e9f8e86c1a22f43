"""Starts, asks, watches and ends the process that renders chat templates."""

import contextlib
import errno
import logging
import signal
import socket
import subprocess
import threading
import time
import weakref
from typing import Any

from mlxnode.footprint import footprint_of
from mlxnode.process.helper_process import start_helper
from mlxnode.server.rendering.frames import receive, send
from mlxnode.server.rendering.limits import (
    Budget,
    Limits,
    RenderError,
    RenderLimit,
    current_budget,
)
from mlxnode.server.rendering.process import ERROR, LIMIT, Answer, request_of

logger = logging.getLogger("mlxnode.server")

_LOOK = 0.05  # seconds between two looks at the memory of the process
_END = 2.0  # seconds for a process to end that has closed its socket
# What ends a process from outside; every other signal is the work of the template.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Helper:
    """One such process. It is started when it is first needed, and again after its end."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._running: _Running | None = None
        self.lock = threading.Lock()  # to be held by whoever calls ``render``

    def render(self, source: str, context: dict[str, Any]) -> str:
        """The text of the template ``source``; ``context`` is data of JSON.

        Raises:
            RenderLimit: a bound is exceeded, or the process has crashed.
            RenderError: the template has raised an error.
            OSError: the process cannot be started, or was ended from outside, twice.
        """
        limits = self._limits
        budget = current_budget() or Budget(limits.cpu_seconds)
        seconds = min(budget.left, limits.cpu_seconds)
        if seconds <= 0:
            raise RenderLimit("takes too long to render, time and again")
        request = request_of(source, context, seconds, limits.characters)
        data = self._ask(request, seconds) or self._ask(request, seconds)
        if data is None:
            raise OSError(errno.EAGAIN, "the process that renders chat templates was ended")
        answer = Answer.of(data)
        budget.left -= answer.cpu_seconds
        if answer.kind == ERROR:
            raise RenderError(answer.text)
        if answer.kind == LIMIT:
            raise RenderLimit(answer.text)
        return answer.text

    def close(self) -> None:
        """End the process, if there is one."""
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def _ask(self, request: bytes, cpu_seconds: float) -> bytes | None:
        """The answer; None if the process was ended from outside."""
        if self._running is None:
            self._running = _Running.start(self)
        try:
            answer = self._running.exchange(request, self._limits)
        except BaseException:
            self.close()
            raise
        if answer is not None:
            return answer
        code = self._running.end(wait=True)
        self._running = None
        if code == -signal.SIGPROF:
            raise RenderLimit(f"takes more than {cpu_seconds:.1f} s to render")
        if code < 0 and -code not in _FROM_OUTSIDE:
            raise RenderLimit(f"has crashed its process ({signal.Signals(-code).name})")
        logger.debug("the process that renders chat templates has ended (%d)", code)
        return None


class _Running:
    """The process, and this end of its socket."""

    def __init__(self, process: "subprocess.Popen[bytes]", peer: socket.socket, owner: Helper):
        self._process = process
        self._peer = peer
        self._finalizer = weakref.finalize(owner, self.end)

    @classmethod
    def start(cls, owner: Helper) -> "_Running":
        """Start it; it ends with ``owner``, and with this process.

        Raises:
            OSError: the system has no process or no descriptor left.
        """
        return cls(*start_helper("mlxnode.server.rendering.process"), owner)

    def exchange(self, request: bytes, limits: Limits) -> bytes | None:
        """The answer to ``request``; None if the process has ended.

        Raises:
            RenderLimit: a bound is exceeded that the process cannot keep itself.
        """
        deadline = time.monotonic() + limits.seconds

        def look() -> None:
            used = footprint_of(self._process.pid) or 0
            if used > limits.memory_bytes:
                size = limits.memory_bytes / 2**20
                raise RenderLimit(f"needs more than {size:,.0f} MB to render")
            if time.monotonic() > deadline:
                raise TimeoutError  # it was stopped: a new one will answer

        try:
            self._peer.settimeout(limits.seconds)
            send(self._peer, request)
            self._peer.settimeout(_LOOK)
            return receive(self._peer, look)
        except OSError:
            return None

    def end(self, *, wait: bool = False) -> int:
        """End the process; its exit code. With ``wait``, it is ending by itself."""
        self._finalizer.detach()
        self._peer.close()
        if wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(_END)
        self._process.kill()
        return self._process.wait()
