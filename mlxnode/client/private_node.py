"""A node for one command: started by it, reached by nobody else, ended with it."""

import os
import re
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from mlxnode.client import guard
from mlxnode.client.endpoint import Endpoint
from mlxnode.client.text import one_line
from mlxnode.errors import RequestError

_READY = re.compile(r"is ready at (https?://[^\s/]+)")
_LOG = re.compile(r"\d{4}-\d\d-\d\d[ T]|(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_ERROR = "mlxnode: "  # begins what the node tells its user when it cannot serve
_LAST_LINES = 50  # of the log, for the reason of a failed start
_PATIENCE = 15.0  # seconds for the node to end

Say = Callable[[str], None]


class PrivateNode:
    """A node on a free port of the loopback interface, with a key that nobody else knows.

    ``arguments`` are further arguments of ``mlxnode serve``: models, or the configuration.
    ``certificate`` is that of the configuration. The node ends with this process, however this
    process ends.
    """

    def __init__(self, arguments: Sequence[str], certificate: Path | None = None):
        self._arguments = list(arguments)
        self._certificate = certificate
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader: threading.Thread | None = None
        self._is_ready = threading.Event()
        self._url: str | None = None

    @property
    def is_running(self) -> bool:
        """True if it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, say: Say) -> Endpoint:
        """Start, and wait until the models are loaded; ``say`` hears how far it is.

        Raises:
            RequestError: the node ended; the message says why.
        """
        key = f"sk-{secrets.token_urlsafe(24)}"
        self._is_ready.clear()
        self._url = None
        self._lines.clear()
        serve = [sys.executable, "-P", "-m", "mlxnode", "serve", "--address", "127.0.0.1:0"]
        self._process = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, *serve, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"MLXNODE_API_KEY": key},
            start_new_session=True,  # ctrl-C is for the answer, not for the node
        )
        self._reader = threading.Thread(
            target=self._read, args=(self._process, say), name="node", daemon=True
        )
        self._reader.start()
        self._is_ready.wait()
        if self._url is None:
            raise RequestError(self._reason())
        return Endpoint(self._url, key, self._certificate)

    def close(self) -> None:
        """End the node, and wait for its end, though not forever."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return  # the guard goes on
        finally:
            self._process.stdin = None

    def _read(self, process: "subprocess.Popen[str]", say: Say) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                text = one_line(line)
                self._lines.append(text)
                if not self._is_ready.is_set():
                    if found := _READY.search(line):
                        self._url = found[1]
                        self._is_ready.set()
                    elif text and not _LOG.match(text) and not text.startswith(_ERROR):
                        say(text)
        self._is_ready.set()  # the node has ended: whoever waits need not wait longer

    def _reason(self) -> str:
        """Why the node ended: what it told its user, else the last line."""
        told = [line for line in self._lines if line.startswith(_ERROR)]
        said = [line.removeprefix(_ERROR) for line in told if ": warning: " not in line]
        last = self._lines[-1] if self._lines else "it ended without a word"
        return "; ".join(said) or f"no node could be started: {last}"
