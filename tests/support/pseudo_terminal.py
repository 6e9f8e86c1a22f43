"""A command in a pseudo-terminal, as a user has it."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs ``command`` in a terminal. The end of the block ends it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 100,
        rows: int = 50,
        env: Mapping[str, str] | None = None,
        **options,
    ):
        self._main, second = pty.openpty()
        fcntl.ioctl(second, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings = termios.tcgetattr(second)
        names = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM"}
        own = {name: value for name, value in os.environ.items() if name not in names}
        self.process = subprocess.Popen(
            command,
            stdin=second,
            stdout=second,
            stderr=second,
            env={**own, "TERM": "xterm-256color", **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **options,
        )
        self._second = second
        self.raw = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._main)
        with contextlib.suppress(OSError):
            os.close(self._second)

    @property
    def text(self) -> str:
        """All that was written, without control sequences."""
        return _CONTROL.sub("", self.raw).replace("\r", "\n")

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def wait_for(self, pattern: str, timeout: float = 60, *, start: int = 0) -> None:
        """Read until ``pattern`` is in the text from character ``start`` on."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.text[start:]):
            assert time.monotonic() < deadline, self.text
            assert self._read(0.1) or self.process.poll() is None, self.text

    def wait_end(self, timeout: float = 30) -> int:
        """Read until the command ends; returns its exit code."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read(0.1)
        while self._read(0.1):
            pass
        return self.process.returncode

    def settings_now(self) -> list:
        """The settings of the terminal, to compare with ``settings``."""
        return termios.tcgetattr(self._second)

    def _read(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._main], [], [], seconds)
        if not readable:
            return False
        try:
            data = os.read(self._main, 65_536)
        except OSError:  # the other end is closed
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
