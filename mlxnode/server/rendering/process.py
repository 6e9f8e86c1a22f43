"""The process that renders: it answers one request after the other, until its end of input."""

import marshal
import resource
import signal
import socket
import struct
import time
from typing import Any, NamedTuple

from mlxnode.process.signals import ignore_signals
from mlxnode.server.rendering.environment import compiled
from mlxnode.server.rendering.frames import receive, send

TEXT, ERROR, LIMIT = range(3)
_HEAD = struct.Struct("<Bd")  # of an answer: its kind, the seconds of the processor it took
_MAX_ERROR = 1000  # characters of a message, which may quote the whole conversation
_SURROGATES = "surrogatepass"  # half of a character, which a text of Python may hold


def main(descriptor: int) -> None:
    """Render what comes over a socket until it closes."""
    ignore_signals()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as worker:
        while (request := receive(worker)) is not None:
            try:
                send(worker, _answer(request))
            except OSError:
                return  # the worker is gone


def request_of(
    source: str, context: dict[str, Any], cpu_seconds: float, characters: int
) -> bytes:
    """A request in the form that the process takes."""
    # The same Python reads it. JSON takes ten times as long, on the worker's side, too.
    return marshal.dumps((source, context, cpu_seconds, characters))


class Answer(NamedTuple):
    """``text`` is a message if the kind is not ``TEXT``."""

    kind: int
    cpu_seconds: float
    text: str

    @classmethod
    def of(cls, data: bytes) -> "Answer":
        kind, cpu_seconds = _HEAD.unpack_from(data)
        return cls(kind, cpu_seconds, data[_HEAD.size :].decode("utf-8", _SURROGATES))


def _answer(request: bytes) -> bytes:
    began = time.process_time()
    source, context, cpu_seconds, characters = marshal.loads(request)
    # The signal ends the process, also within a single operation that takes for ever.
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        kind, text = _render(source, context, characters)
        head = _HEAD.pack(kind, time.process_time() - began)
        return head + text.encode("utf-8", _SURROGATES)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _render(source: str, context: dict[str, object], characters: int) -> tuple[int, str]:
    pieces: list[str] = []
    length = 0
    try:
        for piece in compiled(source).generate(context):
            length += len(piece)
            if length > characters:
                return LIMIT, f"writes more than {characters:,} characters"
            pieces.append(piece)
        return TEXT, "".join(pieces)
    except MemoryError:
        return LIMIT, "needs more memory than there is"
    except RecursionError:
        return LIMIT, "calls itself too often"
    except Exception as error:  # a template is a program: it can raise any error
        return ERROR, str(error)[:_MAX_ERROR]
