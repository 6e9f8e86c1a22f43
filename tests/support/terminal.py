"""A command in a pseudo-terminal, as a user sees it."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>78]|\r"
)
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """Runs ``command`` in a terminal of its own. The end of the block ends the command."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = (40, 100),
    ):
        """``size`` is in lines and columns."""
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        # Nobody answers where the cursor is.
        surroundings = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **surroundings, **(env or {})},
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)
        self._written = b""
        self._news = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(10)
        os.close(self._main)

    @property
    def raw(self) -> str:
        """All that the command has written."""
        return self._written.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without the terminal's control sequences."""
        return _CONTROL.sub("", self.raw)

    def type(self, text: str) -> int:
        """Press keys; returns how much had been written before."""
        before = len(self.text)
        os.write(self._main, text.encode())
        return before

    def enter(self, text: str) -> int:
        """Type a line and press Enter."""
        return self.type(f"{text}\r")

    def wait_for(self, text: str, since: int = 0, timeout: float = 60) -> int:
        """Wait until ``text`` has been written; returns the place behind it."""
        deadline = time.monotonic() + timeout
        with self._news:
            while text not in self.text[since:]:
                left = deadline - time.monotonic()
                assert left > 0 and not self._is_over, f"no {text!r} in {self.text[since:]!r}"
                self._news.wait(left)
            return self.text.index(text, since) + len(text)

    def wait(self, timeout: float = 60) -> int:
        """The exit code of the command."""
        return self.process.wait(timeout)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:  # the other side is closed
                data = b""
            with self._news:
                self._written += data
                self._is_over = not data
                self._news.notify_all()
            if not data:
                return
