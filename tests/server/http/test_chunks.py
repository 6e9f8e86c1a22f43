"""The chunked transfer coding, without a socket."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.raw_bodies import BODIES
from support.raw_messages import BODY
from support.raw_mutations import mutated

from mlxnode.server.errors import ApiError
from mlxnode.server.http.chunks import ChunkedBody

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = [name for name in BODIES if name.startswith(("chunk", "trailer"))]
NEXT = b"GET / HTTP/1.1\r\n"


def read(data: bytes, step: int | None = None) -> tuple[bytes, bytes] | str | None:
    """The body and what follows it, or why it is refused, or None if more is needed."""
    chunks, buffer, body = ChunkedBody(), bytearray(), b""
    step = step or max(len(data), 1)
    try:
        for start in range(0, len(data), step):
            buffer += data[start : start + step]
            body += chunks.read(buffer)
            if chunks.is_complete:
                return body, bytes(buffer) + data[start + step :]
    except ApiError as error:
        return error.message
    return None


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("step", [1, 3, 50, None])
def test_chunks_that_are_bad_are_refused_however_they_are_cut(name, step):
    _, _, body = BODIES[name].data.partition(b"\r\n\r\n")
    result = read(body + b"\r\n" + NEXT, step)
    assert isinstance(result, str) and "chunks of the body" in result


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, None])
@pytest.mark.parametrize(
    "data",
    [
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
        b"%x;a=b\r\n%b\r\n0\r\nA: b\r\nC: d\r\n\r\n" % (len(BODY), BODY),
    ],
)
def test_chunks_are_read_to_their_end_and_no_further(data, step):
    assert read(data + NEXT, step) == (BODY, NEXT)


def test_chunks_of_a_byte_are_read_in_linear_work_and_short_turns():
    """llhttp gets two pieces for each chunk and each byte once, some thousand in a call."""
    chunks, num_pieces, num_bytes = ChunkedBody(), 0, 0
    feed = chunks._parser.feed_data

    class Counting:
        def feed_data(self, piece: bytes) -> None:
            nonlocal num_pieces, num_bytes
            num_pieces += 1
            num_bytes += len(piece)
            feed(piece)

    chunks._parser = Counting()  # pyright: ignore[reportAttributeAccessIssue]
    data = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    buffer, body = bytearray(data), b""
    while not chunks.is_complete:
        before = num_pieces
        body += chunks.read(buffer)
        assert 0 < num_pieces - before <= 4096
    assert body == b"x" * 10_000
    assert num_pieces == 20_002 and num_bytes == len(data)


SEEDS = [
    b"3\r\nabc\r\n0\r\n\r\n",
    b"a\r\n0123456789\r\n1;x=y\r\nz\r\n0\r\nA: b\r\n\r\n",
    b"0\r\n\r\n",
]
NASTY = [*(bytes([byte]) for byte in range(256)), b"\r\n", b"\n\n", b"0\r\n\r\n", b"0x", b" ;"]


def read_with_h11(data: bytes) -> tuple[bytes, bytes] | None:
    connection = h11.Connection(h11.SERVER)
    body = b""
    try:
        connection.receive_data(HEAD + data)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event in (h11.NEED_DATA, h11.PAUSED):
                return None
            body += event.data if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        return None
    return body, connection.trailing_data[0]


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(mutated(SEEDS, NASTY), st.sampled_from([None, 1, 3]))
def test_chunks_that_are_read_mean_the_same_to_h11(data, step):
    result = read(data, step)
    if isinstance(result, tuple):
        assert result == read_with_h11(data)
