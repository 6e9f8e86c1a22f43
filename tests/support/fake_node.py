"""A supervisor over fake children, in a process of its own."""

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

TIMEOUT = 30  # seconds


class Node:
    """A supervisor with two fake workers and a fake engine."""

    def __init__(
        self,
        folder: Path,
        *,
        descriptors: tuple[int, int] | None = None,
        command: tuple[str, ...] = (),
        terminal: int | None = None,
        file_size: int | None = None,
        **server: object,
    ):
        """``descriptors``: the soft and hard limits that the supervisor starts with.

        ``command`` runs the supervisor. ``terminal`` is the terminal that it is started from.
        ``file_size``: bytes that a file can have, as where the disk is full.
        """
        self.folder = folder

        def prepare() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
            if file_size is not None:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, hard))
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        server = {"workers": 2, "drain_timeout": 1.0} | server
        code = (
            "import sys, json, pathlib; sys.path.insert(0, sys.argv[1]);"
            "from support import fakes;"
            "sys.exit(fakes.supervise(pathlib.Path(sys.argv[2]), **json.loads(sys.argv[3])))"
        )
        arguments = [str(Path(__file__).parents[1]), str(folder), json.dumps(server)]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", code, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that pids() can find all of its processes
            preexec_fn=prepare,
        )

    def order(self, name: str, order: str) -> None:
        (self.folder / f"{name}-{order}").touch()

    def undo(self, name: str, order: str) -> None:
        (self.folder / f"{name}-{order}").unlink()

    def wait_for(self, name: str, event: str, count: int = 1) -> list[int]:
        """The pids of the children that reported ``event``, once ``count`` of them did."""
        paused = threading.Event()
        for _ in range(TIMEOUT * 50):
            found = sorted(self.folder.glob(f"{name}-*-{event}"), key=os.path.getmtime)
            if len(found) >= count:
                return [int(file.name.split("-")[1]) for file in found]
            assert self.process.poll() is None, self.process.stderr.read()
            paused.wait(0.02)
        raise AssertionError(f"{name} never reported {event}")

    def wait_ready(self) -> str:
        """The heavy modules that the supervisor had imported when everything was ready."""
        paused = threading.Event()
        for _ in range(TIMEOUT * 50):
            if found := list(self.folder.glob("ready-*")):
                return found[0].name.removeprefix("ready-")
            assert self.process.poll() is None, self.process.stderr.read()
            paused.wait(0.02)
        raise AssertionError("never ready")

    def pids(self) -> list[int]:
        """Every running process of its session, including the resource tracker."""
        command = ["ps", "-A", "-o", "pid=,pgid=,stat="]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listing.splitlines()]
        return [
            int(pid)
            for pid, group, state in rows
            if int(group) == self.process.pid and not state.startswith("Z")
        ]

    def is_gone(self) -> bool:
        """True if none of its processes is left, now or in a moment."""
        paused = threading.Event()
        return any(not self.pids() or paused.wait(0.05) for _ in range(TIMEOUT * 10))

    def end(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
