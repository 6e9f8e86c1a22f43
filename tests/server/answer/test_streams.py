"""One stream of events: its keep-alives, its failures and its end."""

import asyncio
import types

import msgspec
import pytest
from sanic import HTTPResponse
from sanic.exceptions import RequestCancelled

from mlxnode.server.answer import sse
from mlxnode.server.answer.sse import StreamStart, stream_answer
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.errors import Unavailable


class Chunk(msgspec.Struct):
    text: str


class Writer(AnswerWriter):
    """Writes each delta, which is a list of texts, as that many chunks."""

    end = b"end\n\n"

    def response(self, choices, usage):
        raise NotImplementedError

    def opening_chunks(self, usage):
        return [Chunk("opening")]

    def chunks(self, delta):
        return [Chunk(text) for text in delta]

    def closing_chunks(self, usage):
        return [Chunk("closing")]

    def frame(self, chunk):
        return f"{chunk.text}\n\n".encode()

    def failure(self, error):
        return f"failure: {error.message}\n\n".encode()


class Response(HTTPResponse):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.events: list[str] = []
        self.has_ended = False
        self.num_writes = 0
        self.error: Exception | None = None

    async def send(self, data=None, end_stream=None):
        if self.error is not None:
            raise self.error
        assert not self.has_ended
        self.num_writes += 1
        self.events += data.decode().split("\n\n")[:-1]
        self.has_ended = bool(end_stream)


class Scripted:
    """A generation whose script is a list of deltas, errors, and seconds of silence."""

    usage = TokenCounts(prompt=1, cached=0, completion=0, reasoning=0)

    def __init__(self, *script):
        self._script = list(script)
        self._silence = 0.0

    @property
    def is_finished(self) -> bool:
        return not self._script

    async def wait(self, seconds: float) -> bool:
        if isinstance(self._script[0], float):
            self._silence += self._script.pop(0)
        waited = min(self._silence, seconds)
        await asyncio.sleep(waited)
        self._silence -= waited
        return self._silence <= 0

    async def receive(self):
        news = self._script.pop(0)
        if isinstance(news, Exception):
            raise news
        return news


async def stream_of(*script, keep_alive_after: float = 10.0, error=None) -> Response:
    response = Response()

    async def respond(**options):
        response.error = error
        return response

    request = types.SimpleNamespace(respond=respond, ctx=types.SimpleNamespace(request_id="r"))
    await stream_answer(StreamStart(request, keep_alive_after), Scripted(*script), Writer())
    return response


COMMENT = ": keep-alive"


@pytest.fixture
def quick(monkeypatch):
    """A stream may be silent for this time."""
    monkeypatch.setattr(sse, "KEEP_ALIVE_EVERY", 0.05)
    return 0.05


async def test_stream_without_silence_has_no_keep_alive():
    response = await stream_of([["a"]], [], [["b", "c"]])
    assert response.events == ["opening", "a", "b", "c", "closing", "end"]
    assert response.has_ended


async def test_stream_is_kept_alive_before_and_between_tokens(quick):
    response = await stream_of(0.19, [["a"]], 0.13, [["b"]], keep_alive_after=0.02)
    assert response.events[0] == "opening"
    before, after = response.events.index("a"), response.events.index("b")
    assert set(response.events[1:before]) == {COMMENT}
    assert set(response.events[before + 1 : after]) == {COMMENT}
    assert response.events[after:] == ["b", "closing", "end"]


async def test_stream_is_kept_alive_while_output_is_held_back(quick):
    """Tokens come all the time, and none completes anything to write."""
    held = [step for _ in range(20) for step in (0.01, [])]
    response = await stream_of([["a"]], *held, [["b"]])
    kept = response.events.count(COMMENT)
    assert kept >= 1
    assert response.events == ["opening", "a", *[COMMENT] * kept, "b", "closing", "end"]


async def test_stream_that_may_begin_at_once_does_so():
    response = await stream_of(0.01, [["a"]], keep_alive_after=0.0)
    assert response.events == ["opening", "a", "closing", "end"]
    assert response.num_writes == 2  # not in one write, as it would be after the first token


async def test_stream_fails_before_its_head_with_an_error():
    with pytest.raises(Unavailable):
        await stream_of(0.01, Unavailable("no"))


async def test_stream_fails_after_its_head_with_an_event():
    begun = [0.05, Unavailable("no")]
    response = await stream_of(*begun, keep_alive_after=0.0)
    assert response.events == ["opening", "failure: no"] and response.has_ended


async def test_stream_with_an_unexpected_fault_ends_with_an_event_that_tells_nothing(caplog):
    response = await stream_of([["a"]], ZeroDivisionError("secret"))
    *begun, last = response.events
    assert begun == ["opening", "a"] and response.has_ended
    assert last.startswith("failure: The server had an error") and "secret" not in last
    assert "ZeroDivisionError" in caplog.text


async def test_stream_writes_nothing_to_a_client_that_has_left():
    with pytest.raises(RequestCancelled):
        await stream_of([["a"]], [["b"]], error=RequestCancelled())
