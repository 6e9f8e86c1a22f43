"""The request log: one line for each request, without prompts, answers, keys and URLs.

A thread writes the lines, so that no request waits for a disk or for the reader of a pipe. If
it does not keep up, lines are lost, and the log says how many.
"""

import json
import logging
import os
import queue
import re
import threading
import time
from typing import Literal

import msgspec

from mlxnode.config.tables import RequestLogForm

logger = logging.getLogger("mlxnode.server")

# done: answered; refused: 4xx; failed: 5xx, or a stream that ended with an error; cancelled: by
# an order, and the client was told so; left: the client went away before the end; cut: the node
# ended the answer without a word, as of a client that does not read at the end of a drain.
Outcome = Literal["done", "refused", "failed", "cancelled", "left", "cut"]

_MAX_QUEUED = 10_000  # lines
_QUIET = 60.0  # seconds between two warnings
_PLAIN = re.compile(r"[\w./:<>@+-]+", re.ASCII)
_STANDARD_OUTPUT = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line. Times in seconds; None is unknown, or does not apply."""

    time: str  # RFC 3339, when the head had arrived
    id: str | None
    key: str | None  # the id of the key
    method: str | None
    path: str | None  # of the route; clients may put anything into other URLs
    model: str | None
    status: int | None
    outcome: Outcome
    error: str | None  # the code
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    asked_s: float | None  # until the engine was asked; the limits and the prompt are before
    first_token_s: float | None
    total_s: float | None
    trace_id: str | None = None  # of the traceparent
    span_id: str | None = None  # of this request
    background: bool = False  # a line of a batch


class RequestLog:
    """Writes entries from ``open`` to ``close``; ``file`` None is standard output."""

    def __init__(self, form: RequestLogForm, file: str | None):
        self._to_text = _as_json if form == "json" else _as_text
        self._file = file
        self._output: int | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._is_torn = False  # the last line has no end
        self._num_refused = 0  # lines, since the queue was full; counted by the event loop
        self._num_failed = 0  # lines, since they were not written; counted by the thread
        self._num_told = 0  # of both
        self._why = "they come faster than they can be written"
        self._quiet_until = 0.0
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def open(self) -> "RequestLog":
        """Write from now on. A worker serves without the log, so an error is a warning."""
        try:
            self._open_file()
        except OSError as error:
            logger.warning("the request log cannot be written: %s: %s", self._file, error)
        self._thread.start()
        return self

    def write(self, entry: Entry) -> None:
        """Queue one line; never waits."""
        if self._lines.qsize() < _MAX_QUEUED:
            self._lines.put(self._to_text(entry).encode() + b"\n")
        else:
            self._num_refused += 1

    def close(self, timeout: float) -> None:
        """Write what is queued, for at most ``timeout`` seconds."""
        self._lines.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                # A line is one write: other workers write to the same file or pipe.
                data = b"\n" + line if self._is_torn else line
                self._is_torn = os.write(self._open_file(), data) < len(data)
                if self._is_torn:
                    self._fail("there is no room left")
            except OSError as error:
                self._fail(str(error))
            self._warn()
        self._quiet_until = 0.0
        self._warn()

    def _fail(self, why: str) -> None:
        self._num_failed += 1
        self._why = why

    def _warn(self) -> None:
        """Tell of lost lines: at once, then once a minute. Only the thread may wait."""
        lost = self._num_refused + self._num_failed
        if lost > self._num_told and time.monotonic() >= self._quiet_until:
            logger.warning("%d lines of the request log are lost so far: %s", lost, self._why)
            self._num_told = lost
            self._quiet_until = time.monotonic() + _QUIET

    def _open_file(self) -> int:
        """The descriptor to write to; that of a new file if the last one was moved away."""
        if self._file is None:
            return _STANDARD_OUTPUT
        if self._output is not None and not _is_at(self._output, self._file):
            os.close(self._output)
            self._output = None
        if self._output is None:
            # To open a FIFO that nobody reads is an error then, and no wait.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
            self._output = os.open(self._file, flags, 0o600)
            os.set_blocking(self._output, True)
        return self._output


def _as_json(entry: Entry) -> str:
    """In ASCII: some readers end lines at other characters, too."""
    return json.dumps(msgspec.structs.asdict(entry), separators=(",", ":"))


def _as_text(entry: Entry) -> str:
    """``name=value`` for each known value; what is not plain is quoted as JSON."""
    texts = {
        name: "true" if value is True else str(value)
        for name, value in msgspec.structs.asdict(entry).items()
        if value is not None and value is not False
    }
    return " ".join(
        f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}"
        for name, text in texts.items()
    )


def _is_at(descriptor: int, path: str) -> bool:
    """True if ``descriptor`` is of the file that ``path`` names now."""
    try:
        there, here = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
