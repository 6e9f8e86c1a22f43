"""Messages of HTTP/1.1 as bytes: what the tables of raw messages are made of."""

from typing import NamedTuple

BODY = b'{"model": "tiny-chat", "prompt": "x"}'
HOST = b"Host: x"
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


class Message(NamedTuple):
    """One or more requests, and the ``statuses`` of the answers in their order.

    ``source``: a section of an RFC, or the advisory of a server that had it wrong.
    """

    name: str
    source: str
    data: bytes
    statuses: tuple[int, ...]


def get(*lines: bytes, first: bytes = b"GET /v1/models HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def post(*lines: bytes, body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    first = b"POST /v1/completions HTTP/" + version
    return b"\r\n".join([first, HOST, JSON, *lines, b"", body])


def sized(*lines: bytes) -> bytes:
    return post(b"Content-Length: %d" % len(BODY), *lines)


def length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value)


def coded(value: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value, body=CHUNKS)


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


def first(line: bytes) -> bytes:
    return get(HOST, first=line)


def refused(name: str, source: str, data: bytes, status: int = 400) -> Message:
    return Message(name, source, data, (status,))


HEX = b"%x" % len(BODY)


def served(name: str, source: str, data: bytes, *statuses: int) -> Message:
    return Message(name, source, data, statuses or (200,))


def trailers(*lines: bytes) -> bytes:
    return chunked(b"\r\n".join([HEX, BODY, b"0", *lines, b"", b""]))
