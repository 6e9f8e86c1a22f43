"""The life of a worker process: clients that leave, orders, and how it ends."""

import dataclasses
import json
import os
import signal
import socket
import threading

import httpx2 as httpx
import openai
import pytest

from mlxnode.messages import (
    Abort,
    Drain,
    Embed,
    FailedModels,
    Generate,
    Ping,
    Pong,
    Stop,
)

WAIT = 20.0  # seconds


def post(worker, path: str, **body) -> socket.socket:
    """Send a request over a bare socket, and leave the answer unread."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)
    connection.sendall(head.encode() + data)
    return connection


def chat(worker, **options) -> socket.socket:
    messages = [{"role": "user", "content": "hi"}]
    return post(worker, "/v1/chat/completions", model="tiny-chat", messages=messages, **options)


# --- clients that leave -------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_before_the_first_token_is_aborted_and_charged(
    worker, stream, reset
):
    worker.engine.is_silent = True
    connection = chat(worker, stream=stream)
    uid = worker.engine.next(Generate).uid
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert worker.engine.next(Abort).uid == uid
    assert worker.settled.get(timeout=WAIT).tokens == 21  # its prompt was worked on


def test_client_that_leaves_a_stream_is_aborted_and_charged(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    connection = chat(worker, stream=True)
    received = b""
    while b"abc" not in received:
        received += connection.recv(4096)
    connection.close()
    uid = worker.engine.next(Generate).uid
    assert worker.engine.next(Abort).uid == uid
    assert worker.settled.get(timeout=WAIT).tokens == 21 + 3


def test_client_that_leaves_after_a_large_body_is_aborted(worker):
    worker.engine.is_silent = True
    padding = "x" * 600_000
    connection = chat(worker, padding=padding)
    uid = worker.engine.next(Generate).uid
    connection.close()
    assert worker.engine.next(Abort).uid == uid


def test_client_that_leaves_embeddings_is_aborted(worker):
    worker.engine.is_silent = True
    connection = post(worker, "/v1/embeddings", model="tiny-embedding", input="a")
    uid = worker.engine.next(Embed).uid
    connection.close()
    assert worker.engine.next(Abort).uid == uid


def test_finished_requests_are_not_aborted(worker):
    for stream in (False, True):
        with chat(worker, stream=stream) as connection:
            received = b""
            while b"DONE" not in received and b"total_tokens" not in received:
                received += connection.recv(4096)
    httpx.get(f"{worker.url}/health")
    kinds = [type(worker.engine.received.get(timeout=WAIT)) for _ in range(2)]
    assert kinds == [Generate, Generate] and worker.engine.received.empty()


# --- many at once -------------------------------------------------------------------


def test_many_streams_at_once_keep_their_texts_apart(worker):
    def repeat_prompt(message: Generate) -> None:
        text = worker.engine.text(message.prompt)
        for letter in text:
            worker.engine.update(message.uid, letter)
        worker.engine.update(message.uid, [], "stop")

    worker.engine.on_generate = repeat_prompt
    texts: dict[int, str] = {}

    def stream(i: int) -> None:
        chunks = client.completions.create(
            model="tiny-chat", prompt=f"text {i} " * 5, stream=True
        )
        texts[i] = "".join(chunk.choices[0].text for chunk in chunks)

    with worker.client() as client:
        threads = [threading.Thread(target=stream, args=(i,)) for i in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == {i: f"text {i} " * 5 for i in range(24)}


# --- orders -------------------------------------------------------------------------


@pytest.fixture
def own_worker(start_worker, served_models):
    """A worker that the test may end."""
    with start_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


def test_worker_answers_pings_while_it_serves(worker):
    worker.engine.is_silent = True
    with chat(worker, stream=True):
        worker.engine.next(Generate)
        worker.send(Ping(7))
        assert worker.wait_for(Pong).sequence == 7
    worker.engine.next(Abort)


def test_new_engine_fails_what_was_in_flight_on_the_old_one(worker):
    worker.engine.is_silent = True
    errors = []

    def ask() -> None:
        try:
            worker.client().completions.create(model="tiny-chat", prompt="x")
        except openai.InternalServerError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    worker.engine.next(Generate)
    worker.connect_engine()
    thread.join(WAIT)
    assert [error.status_code for error in errors] == [503]
    worker.engine.reset()
    answer = worker.client().completions.create(model="tiny-chat", prompt="x")
    assert answer.choices[0].text == "Hello!"


def test_drain_finishes_streams_and_refuses_the_rest(own_worker):
    engine = own_worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    idle = chat(own_worker, max_tokens=1)
    engine.update(engine.next(Generate).uid, [], "stop")
    assert b"keep-alive" in idle.recv(65536)
    stream = own_worker.client().completions.create(model="tiny-chat", prompt="x", stream=True)
    first = next(iter(stream))
    busy = chat(own_worker)
    uid = engine.next(Generate).uid
    engine.next(Generate)
    own_worker.send(Drain(WAIT))
    own_worker.send(Ping(1))
    own_worker.wait_for(Pong)  # the order has been taken
    assert idle.recv(4096) == b""  # closed, having nothing under way
    idle.close()
    engine.update(uid + 1, "!", "stop")
    assert b"connection: close" in busy.recv(65536).lower()
    busy.close()
    engine.update(uid, "def", "stop")
    text = first.choices[0].text + "".join(chunk.choices[0].text for chunk in stream)
    assert text == "abcdef"
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


def read_all(connection: socket.socket) -> bytes:
    """What the worker sends until it closes the connection; a reset is an error."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def check_503(answer: bytes) -> None:
    """The answer is OpenAI's envelope, and says when to come again."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), head
    assert b"retry-after: 2\r\n" in head + b"\r\n"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_drain_that_cuts_answers_503_and_ends_within_seconds(own_worker):
    own_worker.engine.is_silent = True
    body = b'{"model": "tiny-embedding", "input": "a"}'
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with (
        chat(own_worker) as whole,
        chat(own_worker, stream=True) as not_begun,
        post(own_worker, "/v1/embeddings", model="tiny-embedding", input="a") as vectors,
        socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as no_body,
        socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as no_head,
    ):
        no_body.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        no_head.sendall(head)
        own_worker.engine.next(Embed)
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(0.1))
        for connection in (whole, not_begun, vectors, no_body, no_head):
            check_503(read_all(connection))
        own_worker.process.join(WAIT)
        assert own_worker.process.exitcode == 0


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_drain_that_cuts_a_stream_sends_an_error_event_first(own_worker, endpoint):
    engine = own_worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    client = own_worker.client()
    if endpoint == "chat":
        messages = [{"role": "user", "content": "hi"}]
        stream = client.chat.completions.create(
            model="tiny-chat", messages=messages, stream=True
        )
    else:
        stream = client.completions.create(model="tiny-chat", prompt="x", stream=True)
    next(iter(stream))
    own_worker.send(Drain(0.1))
    with pytest.raises(openai.APIError, match="shutting down") as caught:
        list(stream)
    assert caught.value.code == "server_is_overloaded"
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


def test_drain_does_not_wait_for_a_client_that_does_not_read(own_worker):
    engine = own_worker.engine
    engine.is_silent = True
    with chat(own_worker, stream=True, logprobs=True) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        uid = engine.next(Generate).uid
        for _ in range(200):  # far more than the buffers of the connection
            engine.update(uid, "x" * 500)
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(0.1))
        own_worker.process.join(WAIT)
        assert own_worker.process.exitcode == 0


def test_drain_answers_503_to_a_request_under_way(own_worker):
    with socket.create_connection(("127.0.0.1", own_worker.port), timeout=WAIT) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        own_worker.send(Ping(1))
        own_worker.wait_for(Pong)
        own_worker.send(Drain(WAIT))
        own_worker.send(Ping(2))
        own_worker.wait_for(Pong)
        connection.sendall(b"Host: x\r\n\r\n")
        answer = connection.recv(65536).lower()
        assert answer.startswith(b"http/1.1 503") and b"connection: close" in answer
        assert b"retry-after" in answer
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0


def test_drain_while_loading_ends_the_worker(start_worker, served_models):
    with start_worker(served_models, {}, until=None) as worker:
        worker.send(Drain(WAIT))
        worker.process.join(WAIT)
        assert worker.process.exitcode == 0


@pytest.mark.parametrize("end", ["stop", "hang up"])
def test_worker_ends_when_told_or_orphaned(own_worker, end):
    own_worker.engine.is_silent = True
    with chat(own_worker):
        own_worker.engine.next(Generate)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(own_worker.process.pid, number)
        own_worker.send(Ping(1))
        assert own_worker.wait_for(Pong).sequence == 1
        if end == "stop":
            own_worker.send(Stop())
        else:
            own_worker.hang_up()
        own_worker.process.join(WAIT)
        assert own_worker.process.exitcode == 0


def test_worker_serves_the_models_that_it_can_and_says_why_not_the_others(
    start_worker, served_models, tmp_path
):
    (tmp_path / "config.json").write_text("{}")
    broken = dataclasses.replace(served_models[0], id="broken", folder=tmp_path)
    with start_worker([*served_models, broken], {}) as worker:
        assert list(worker.started.failed) == ["broken"]
        assert str(tmp_path) in worker.started.failed["broken"]
        worker.connect_engine()
        assert ask(worker).choices
        assert_failed(worker, "broken", str(tmp_path))


def test_worker_learns_which_models_fail_and_which_are_served_again(own_worker):
    own_worker.send(FailedModels({"tiny-chat": "the moon is full"}))
    own_worker.send(Ping(7))
    own_worker.wait_for(Pong)
    assert_failed(own_worker, "tiny-chat", "the moon is full")
    health = httpx.get(f"{own_worker.url}/health")
    assert (health.status_code, health.json()["failed_models"]) == (200, ["tiny-chat"])
    own_worker.send(FailedModels({}))
    own_worker.send(Ping(8))
    own_worker.wait_for(Pong)
    assert ask(own_worker).choices
    assert httpx.get(f"{own_worker.url}/health").json()["failed_models"] == []


def ask(worker):
    return worker.client().chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "hi"}]
    )


def assert_failed(worker, model: str, reason: str) -> None:
    """The SDK does not retry, and the list of models says the same as the error."""
    client = worker.client(max_retries=2)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}]
        )
    error = caught.value
    assert (error.status_code, error.code, error.param) == (503, "model_failed", "model")
    assert reason in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert int(error.response.headers["retry-after"]) > 0
    assert error.request.headers.get("x-stainless-retry-count") == "0"
    listed = client.models.retrieve(model)
    assert listed.status == "failed" and reason in listed.reason
    others = [each for each in client.models.list().data if each.id != model]
    assert {each.status for each in others} == {"ready"}
