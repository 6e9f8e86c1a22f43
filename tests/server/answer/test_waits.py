"""Streams whose first token takes long: what the client gets meanwhile."""

import contextlib
import json
import time

import openai
import pytest
from support.bare_requests import chat, post
from support.raw_sockets import read_until

from mlxnode.messages.data import Abort, Failed, Generate, Token, Tokens, Update

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


@pytest.mark.long
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
            while KEPT[path] not in begun:  # it may have come with the opening
                begun = begun[-200:] + connection.recv(65536)
            assert 9 < time.monotonic() - started < 30
