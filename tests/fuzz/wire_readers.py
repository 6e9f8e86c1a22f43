"""Targets that read what is on the wire: heads of requests, and bodies in chunks.

The result does not depend on where the bytes are cut. What is accepted means the same to h11.
"""

import importlib
from collections.abc import Callable
from typing import Any

from fuzz.bodies import MAKERS, Rng
from fuzz.target import Target
from fuzz.wire import message

MAX_HEAD = 16_384  # bytes
_CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def _head() -> Callable[[bytes], None]:
    head = importlib.import_module("mlxnode.server.http.head")
    errors = importlib.import_module("mlxnode.server.errors")

    def read(pieces: list[bytes]) -> Any:
        """The head and what is left, or the status of the refusal."""
        reader, buffer = head.HeadReader(MAX_HEAD), bytearray()
        try:
            found = None
            for piece in pieces:
                buffer += piece
                found = found or reader.read(buffer)
        except errors.ApiError as error:
            return error.status
        return found, bytes(buffer)

    def run(data: bytes) -> None:
        """A head, a refusal or a wish for more."""
        if not data:
            return
        at, data = data[0] * len(data) // 256, data[1:]
        whole = read([data])
        in_two, in_bytes = (read(parts) for parts in ([data[:at], data[at:]], _bytes_of(data)))
        assert in_two == whole and in_bytes == whole
        if isinstance(whole, tuple) and whole[0] is not None:
            _compare_with_h11(whole[0], data)

    return run


def _compare_with_h11(found: Any, data: bytes) -> None:
    h11 = importlib.import_module("h11")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(data.lstrip(b"\r\n"))  # which h11 does not skip
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    assert event.method.decode() == found.method
    if event.target.startswith((b"/", b"*")):  # of a whole URL, the node has the path alone
        assert event.target.decode() == found.target
    fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    assert [name for name, _ in fields] == [name for name, _ in found.fields]


def _chunks() -> Callable[[bytes], None]:
    chunks = importlib.import_module("mlxnode.server.http.chunks")
    errors = importlib.import_module("mlxnode.server.errors")

    def read(pieces: list[bytes]) -> Any:
        """The body and what is left; None: refused, or not complete."""
        reader, buffer, body = chunks.ChunkedBody(), bytearray(), b""
        try:
            for piece in pieces:
                buffer += piece
                size = -1
                while not reader.is_complete and size != len(buffer):
                    size = len(buffer)
                    body += reader.read(buffer)
        except errors.ApiError:
            return None
        return (body, bytes(buffer)) if reader.is_complete else None

    def run(data: bytes) -> None:
        """A body, or none."""
        if not data:
            return
        at, data = data[0] * len(data) // 256, data[1:]
        whole = read([data])
        assert read([data[:at], data[at:]]) == whole and read(_bytes_of(data)) == whole
        if whole is not None:
            assert _chunks_of_h11(data) == whole[0]

    return run


def _chunks_of_h11(data: bytes) -> bytes:
    h11 = importlib.import_module("h11")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(_CHUNKED + data)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Request | h11.Data), event
        body += bytes(event.data) if isinstance(event, h11.Data) else b""
    return body


def _bytes_of(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _head_seeds() -> list[bytes]:
    raw_heads = importlib.import_module("support.raw_heads")
    raw_served = importlib.import_module("support.raw_served")
    cases = [*raw_heads.HEADS.values(), *raw_served.SERVED.values()]
    return [b"\x80" + case.data for case in cases]


def _chunk_seeds() -> list[bytes]:
    rng = Rng(0)
    seeds = []
    while len(seeds) < 40:
        data = message("/", bytes(MAKERS.__repr__()[:60], "ascii"), "sk", rng)
        head, _, body = data.partition(b"\r\n\r\n")
        if b"chunked" in head:
            seeds.append(b"\x80" + body)
    raw_bodies = importlib.import_module("support.raw_bodies")
    return seeds + [
        b"\x80" + case.data.partition(b"\r\n\r\n")[2] for case in raw_bodies.BODIES.values()
    ]


WIRE_READERS = (
    Target("head", ("mlxnode.server.http.head",), _head, _head_seeds),
    Target("chunks", ("mlxnode.server.http.chunks",), _chunks, _chunk_seeds),
)
