"""Streams whose first token takes long: what the client gets meanwhile."""

import asyncio
import contextlib
import json
import socket
import time
import types

import msgspec
import openai
import pytest
from sanic import HTTPResponse
from sanic.exceptions import RequestCancelled
from support.bare_requests import chat, post

from mlxnode.messages import Abort, Failed, Generate, Token, Tokens, Update
from mlxnode.server.answer import sse
from mlxnode.server.answer.sse import stream_answer
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.client import EngineCall
from mlxnode.server.errors import ApiError, Unavailable

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
TEXT = {"model": "tiny-chat", "prompt": "x", "stream": True}
MESSAGES = CHAT | {"max_tokens": 9}
RESPONSES = {"model": "tiny-chat", "input": "hi", "stream": True}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
}
# What comes before any token; a completion has only a head.
OPENING = {
    "/v1/chat/completions": b'"role":"assistant"',
    "/v1/completions": b"\r\n\r\n",
    "/v1/messages": b"event: message_start\n",
    "/v1/responses": b"event: response.created\n",
}
LAST = {
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/completions": b"data: [DONE]\n\n",
    "/v1/messages": b"event: message_stop\n",
    "/v1/responses": b"event: response.completed\n",
}
KEPT = {
    "/v1/chat/completions": b": keep-alive\n\n",
    "/v1/completions": b": keep-alive\n\n",
    "/v1/messages": b"event: ping\n",
    "/v1/responses": b"event: response.in_progress\n",
}


@pytest.fixture(scope="module")
def patient_worker(start_worker, served_models):
    """A worker whose streams begin after a moment, token or not."""
    with start_worker(served_models, {"require_auth": False}, {"keep_alive_after": 0.1}) as own:
        own.connect_engine()
        yield own


@pytest.fixture
def early(patient_worker):
    patient_worker.settle()
    patient_worker.engine.is_silent = True
    return patient_worker


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What arrives until ``mark`` is in it."""
    data = b""
    while mark not in data:
        received = connection.recv(65536)
        assert received, data
        data += received
    return data


# --- over HTTP ----------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
def test_wait_a_stream_begins_without_a_token(early, path):
    with post(early, path, **BODIES[path]) as connection:
        message = early.engine.next(Generate)
        begun = read_until(connection, OPENING[path])
        head, _, _ = begun.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"text/event-stream" in head and b"x-accel-buffering: no" in head
        early.engine.update(message.uid, "abc")
        early.engine.update(message.uid, [], "stop")
        rest = read_until(connection, b"0\r\n\r\n")
        assert LAST[path] in rest
        if path != "/v1/completions":
            assert OPENING[path] not in rest


def test_wait_the_sdk_gets_the_whole_answer(early):
    stream = early.client().chat.completions.create(
        **CHAT, stream_options={"include_usage": True}
    )
    first = next(iter(stream))
    assert first.choices[0].delta.role == "assistant"
    uid = early.engine.next(Generate).uid
    tokens = [Token(id, None) for id in early.engine.ids("abc")]
    early.engine.send(Tokens([Update(uid=uid, tokens=tokens, finish="stop", num_cached=5)]))
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "abc"
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 5


@pytest.mark.parametrize("reason", ["internal", "overloaded", "too_large"])
@pytest.mark.parametrize("path", BODIES)
def test_wait_a_failure_after_the_head_is_the_last_event(early, path, reason):
    with post(early, path, **BODIES[path]) as connection:
        uid = early.engine.next(Generate).uid
        begun = read_until(connection, OPENING[path])
        early.engine.send(Failed(uid, reason, "because"))
        answer = (begun + read_until(connection, b"0\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 200") and LAST[path].decode() not in answer
    last = json.loads(answer.rpartition("data: ")[2].partition("\n\n")[0])
    error = last["response"]["error"] if path == "/v1/responses" else last["error"]
    assert "because" in error["message"]


def test_wait_an_engine_that_goes_away_meanwhile_is_an_event(early):
    stream = early.client().chat.completions.create(**CHAT)
    assert next(iter(stream)).choices[0].delta.role
    early.engine.disconnect()
    with pytest.raises(openai.APIError, match="engine stopped"):
        list(stream)
    early.engine.reset()
    early.connect_engine()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("has_begun", [False, True])
def test_wait_a_client_that_leaves_ends_its_request(early, plain_worker, stream, has_begun):
    """Before the head, with a worker that waits long for the first token; and after it."""
    worker = early if has_begun else plain_worker
    worker.engine.is_silent = True
    with chat(worker, stream=stream) as connection:
        uid = worker.engine.next(Generate).uid
        if has_begun and stream:
            read_until(connection, OPENING["/v1/chat/completions"])
    assert worker.engine.next(Abort).uid == uid
    answer = worker.client(api_key="x").completions.create
    worker.engine.is_silent = False
    assert answer(model="tiny-chat", prompt="x").choices[0].text == "Hello!"


@pytest.mark.slow
def test_wait_silent_streams_are_kept_alive(early):
    """The real time: an event after ten seconds, as each format writes it."""
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        streams = {
            path: stack.enter_context(post(early, path, **body))
            for path, body in BODIES.items()
        }
        for path, connection in streams.items():
            begun = read_until(connection, OPENING[path])
            while KEPT[path] not in (begun := begun[-200:] + connection.recv(65536)):
                pass
            assert 9 < time.monotonic() - started < 30


# --- one stream ---------------------------------------------------------------------


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
    await stream_answer(request, Scripted(*script), Writer(), keep_alive_after=keep_alive_after)
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


# --- waiting ------------------------------------------------------------------------


async def test_wait_loses_no_update():
    """Updates and the ends of waits meet in all orders."""
    call, taken = EngineCall(None), []
    updates = [Update(uid=1, finish=None) for _ in range(300)]

    async def deliver() -> None:
        for at, update in enumerate(updates):
            await asyncio.sleep(0.0005 * (at % 3))
            call.deliver(at, update)

    task = asyncio.create_task(deliver())
    num_waits = 0
    while len(taken) < len(updates):
        num_waits += 1
        if await call.wait(0.0005):
            taken += [index for index, _ in await call.receive()]
    await task
    assert taken == list(range(len(updates)))
    assert num_waits > len(updates) / 3
    assert not await call.wait(0.001)
    call.fail(ApiError("no"))
    assert await call.wait(10)
    with pytest.raises(ApiError):
        await call.receive()


async def test_wait_that_is_cancelled_as_it_ends_is_cancelled():
    call = EngineCall(None)
    task = asyncio.create_task(call.wait(0.001))
    await asyncio.sleep(0)
    call.deliver(0, Update(uid=1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await call.receive() == [(0, Update(uid=1))]
