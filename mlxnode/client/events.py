"""The events of a stream, from its bytes as they arrive."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mlxnode.client.text import one_line
from mlxnode.errors import RequestError

_DONE = b"[DONE]"
_MOST = 64 * 2**20  # bytes of a line: no server keeps the memory of a client
BROKEN = "the connection ended before the answer did"


def events(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to ``[DONE]``.

    Raises:
        RequestError: the stream has an error, is no such stream, or ends without ``[DONE]``.
    """
    for line in _lines(chunks):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == _DONE:
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RequestError("the server sent an event that is not JSON") from error
        if isinstance(event, dict):
            if event.get("error"):
                raise RequestError(error_text(event) or "the server had an error")
            yield event
    raise RequestError(BROKEN)


def error_text(answer: Any) -> str | None:
    """The message of an error of the API, on one line; None if there is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return one_line(message) if isinstance(message, str) and message.strip() else None


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as the format has them: U+2028 and its like, which end lines of text, do not."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        yield from lines
        if len(rest) > _MOST:
            raise RequestError("the server sent a line without an end")
