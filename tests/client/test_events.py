"""Events out of the bytes of a stream."""

import pytest

from mlxnode.client.events import BROKEN, error_text, events
from mlxnode.errors import RequestError

STREAM = (
    'data: {"a": "\u2028é"}\r\n\r\n: keep-alive\n\ndata:{"b": 1}\n\ndata: [DONE]\n\n'.encode()
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_arrive(size):
    pieces = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    assert list(events(pieces)) == [{"a": "\u2028é"}, {"b": 1}]


def test_events_without_the_end_are_a_broken_answer():
    found = events([b'data: {"a": 1}\n\n'])
    assert next(found) == {"a": 1}
    with pytest.raises(RequestError, match=BROKEN):
        next(found)


def test_events_of_an_error_raise_its_message_without_control_characters():
    data = b'data: {"error": {"message": "no\\u001b[2J\\nmemory"}}\n\n'
    with pytest.raises(RequestError, match=r"^no\[2J memory$"):
        list(events([data]))


@pytest.mark.parametrize("line", [b"data: {nope\n", b"data: " + b"[" * 100_000 + b"\n"])
def test_events_that_are_no_json_are_refused(line):
    with pytest.raises(RequestError, match="not JSON"):
        list(events([line]))


@pytest.mark.parametrize("answer", [None, 3, {}, {"error": None}, {"error": {"message": 1}}])
def test_error_text_of_what_is_no_error_is_none(answer):
    assert error_text(answer) is None
