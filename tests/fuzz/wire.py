"""Requests as bytes on the wire, and the answers to them."""

import asyncio
import json
import random
import re
from dataclasses import dataclass
from typing import Any

HANG = 600.0  # seconds without an end of the answer; a busy machine needs some minutes
_BAITS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Content-Length : 5\r\n",
    b"Host: a\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Upgrade: h2c\r\n",
    b"0x5\r\n",
    b"ffffffffffffffff\r\n",
    b"\xff\xfe",
    "\u0663".encode(),
    b"HTTP/2.0",
    b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
)


def message(path: str, body: bytes, key: str, rng: random.Random) -> bytes:
    """A valid POST of ``body``; its body may be in chunks."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Connection: close",
    ]
    if rng.random() < 0.2:
        head.append("Transfer-Encoding: chunked")
        cut = rng.randint(0, len(body))
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        body += b"0\r\n\r\n"
    else:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to four changes of its bytes, most of them in the head."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(changed)
        end = changed.find(b"\r\n\r\n") + 4 if rng.random() < 0.8 else size
        at = rng.randrange(max(min(end, size), 1))
        match rng.randrange(6):
            case 0 if changed:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case 2:
                changed[at:at] = rng.choice(_BAITS)
            case 3:
                changed[at:at] = changed[at : at + rng.randint(1, 60)]
            case 4:
                starts = [found.end() for found in re.finditer(rb"\r\n", changed)] or [0]
                at = rng.choice(starts)
                changed[at:at] = rng.choice(_BAITS)
            case 5:
                del changed[at:]
    return bytes(changed)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def check(self, *, is_head: bool = False) -> None:
        """That it is a whole answer of the API."""
        assert self.status != 500 and self.status < 600, self.body
        if self.status < 200 or self.status == 204 or is_head:
            return
        kind = self.headers.get("content-type", "")
        if self.status >= 400:
            _check_error(json.loads(self.body))
        elif kind.startswith("text/event-stream"):
            _check_stream(self.body.decode())
        else:
            json.loads(self.body)


def _check_error(document: Any) -> None:
    error = document["error"]
    assert isinstance(error["message"], str) and error["message"], document
    assert isinstance(error["type"], str), document
    for trace in ("Traceback", 'File "', "sys.", "NoneType", "codec can't"):
        assert trace not in error["message"], document


def _check_stream(text: str) -> None:
    assert text.endswith("\n\n"), text[-200:]
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    last = events[-1]
    ends = ("data: [DONE]", "event: message_stop", "event: response.")
    assert last.startswith(ends) or "\ndata: [DONE]" in last, last
    assert "server_error" not in text and '"api_error"' not in text, text[-500:]


async def exchange(port: int, data: bytes, *, is_whole: bool) -> list[Answer]:
    """Send ``data``; returns all answers. Without ``is_whole``, the end of the stream follows.

    Raises:
        TimeoutError: the server does not end the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        async with asyncio.timeout(HANG):
            try:
                writer.write(data)
                await writer.drain()
                if not is_whole:
                    writer.write_eof()
            except (ConnectionError, RuntimeError):
                pass  # refused before all of it was sent
            received = bytearray()
            try:
                while piece := await reader.read(1 << 16):
                    received += piece
            except ConnectionError:
                pass  # closed while it had not read all: what it said has arrived
        return read_answers(bytes(received), is_head=data.startswith(b"HEAD"))
    finally:
        writer.close()


def read_answers(data: bytes, *, is_head: bool = False) -> list[Answer]:
    """The answers in ``data``, one after the other.

    Raises:
        AssertionError: they are not HTTP.
    """
    answers = []
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        assert found, head
        first, *lines = head.decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]*", first)
        assert status, first
        fields = (re.fullmatch(r"([!-~]+): ?([ -~]*)", line) for line in lines)
        headers = {field[1].lower(): field[2] for field in fields if field}
        assert len(headers) <= len(lines)
        body, data = _read_body(int(status[1]), headers, data, is_head=is_head)
        answers.append(Answer(int(status[1]), headers, body))
    return answers


def _read_body(
    status: int, headers: dict[str, str], data: bytes, *, is_head: bool
) -> tuple[bytes, bytes]:
    if status < 200 or status in (204, 304) or is_head:
        return b"", data
    if headers.get("transfer-encoding") == "chunked":
        return _read_chunks(data)
    if "content-length" not in headers:
        return data, b""
    size = int(headers["content-length"])
    assert len(data) >= size, "the answer is cut"
    return data[:size], data[size:]


def _read_chunks(data: bytes) -> tuple[bytes, bytes]:
    body = bytearray()
    while True:
        line, found, data = data.partition(b"\r\n")
        assert found, "the answer is cut"
        size = int(line, 16)
        assert data[size : size + 2] == b"\r\n", "the answer is cut"
        body += data[:size]
        data = data[size + 2 :]
        if not size:
            return bytes(body), data
