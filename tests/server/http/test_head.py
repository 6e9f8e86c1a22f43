"""The strict reader of heads, without a socket; h11 is the reference."""

import h11
import pytest
from hypothesis import given, settings
from support.raw_heads import HEADS
from support.raw_mutations import mutated
from support.raw_served import SERVED

from mlxnode.server.errors import ApiError, HeadersTooLarge, UriTooLong
from mlxnode.server.http.head import Head, HeadReader

MAX = 16_384


def read(data: bytes, step: int | None = None) -> Head | int | None:
    """The head, or the status of its refusal, or None; ``data`` comes in pieces of ``step``."""
    buffer = bytearray()
    reader = HeadReader(MAX)
    try:
        for start in range(0, len(data), step or len(data)):
            buffer += data[start : start + (step or len(data))]
            if head := reader.read(buffer):
                return head
    except ApiError as error:
        return error.status
    return None


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("step", [1, 2, 7, None])
def test_head_that_is_bad_is_refused_however_it_is_cut(name, step):
    message = HEADS[name]
    if message.statuses == (417,):  # Expect is the connection's
        assert isinstance(read(message.data, step), Head)
    else:
        assert read(message.data + b"\r\n", step) in message.statuses


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("step", [1, 2, 7])
def test_head_that_is_good_is_the_same_however_it_is_cut(name, step):
    whole = read(SERVED[name].data)
    assert isinstance(whole, Head) and read(SERVED[name].data, step) == whole


def test_head_leaves_what_follows_it():
    buffer = bytearray(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n{}GET")
    head = HeadReader(MAX).read(buffer)
    assert head is not None and buffer == b"{}GET"
    assert (head.method, head.target, head.version, head.length) == ("GET", "/", "1.1", 0)
    assert head.fields == [("host", "x")] and head.keep_alive


@pytest.mark.parametrize(
    ("start", "error"), [(b"GET /", UriTooLong), (b"GET / HTTP/1.1\r\nA: ", HeadersTooLarge)]
)
def test_head_without_an_end_is_refused_at_the_limit(start, error):
    reader, buffer = HeadReader(100), bytearray(start)
    while len(buffer) < 100:
        assert reader.read(buffer) is None
        buffer += b"a"
    with pytest.raises(error):
        buffer += b"a"
        reader.read(buffer)


def test_head_reads_each_byte_once():
    """A dripped head is linear: what llhttp gets is the head, whatever the pieces."""
    data = b"POST / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 10_000 + b"\r\n\r\n"
    reader, fed = HeadReader(MAX), 0
    parser = reader._parser

    class Counting:
        should_keep_alive = parser.should_keep_alive

        def feed_data(self, piece: bytes) -> None:
            nonlocal fed
            fed += len(piece)
            parser.feed_data(piece)

    reader._parser = Counting()  # pyright: ignore[reportAttributeAccessIssue]
    buffer = bytearray()
    head = None
    for start in range(len(data)):
        buffer += data[start : start + 1]
        head = reader.read(buffer)
    assert head is not None and fed == len(data)


# --- beside h11 ---------------------------------------------------------------------

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /v1/a?b=c HTTP/1.1\r\nHost: x:1\r\nContent-Length: 12\r\nAccept: */*\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    b"PUT / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
]
NASTY = [
    *(bytes([byte]) for byte in range(256)),
    b"\r\n",
    b"\r\n ",
    b"\n\n",
    b": ",
    b" :",
    b"Host: y\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"chunked",
    b"HTTP/1.0",
    b"http://x/",
]


def read_with_h11(data: bytes) -> h11.Request | None:
    """What h11 takes for a whole head; None if it refuses it or waits for more."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


@pytest.mark.long
@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(mutated(SEEDS, NASTY))
def test_head_that_is_read_means_the_same_to_h11(data):
    head = read(data)
    if not isinstance(head, Head):
        return
    reference = read_with_h11(data)
    assert reference is not None, "h11 refuses what is accepted here"
    assert head.method.encode() == reference.method
    assert head.version.encode() == reference.http_version
    fields = [(bytes(name), bytes(value)) for name, value in reference.headers]
    assert [name for name, _ in fields] == [name.encode() for name, _ in head.fields]
    framing = {name: value for name, value in fields if name.startswith(b"content-length")}
    is_chunked = any(name == b"transfer-encoding" for name, _ in fields)
    assert (head.length is None) == is_chunked
    if not is_chunked:
        assert head.length == int(framing.get(b"content-length", b"0"))
