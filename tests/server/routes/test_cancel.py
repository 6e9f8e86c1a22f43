"""Requests in flight: what a worker tells of them, and how it ends one that is cancelled."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import msgspec
import openai
import pytest
from support.bare_requests import WAIT, chat, post

from mlxnode.figures import RequestFigures
from mlxnode.messages.control import Cancel, Drain, Ping, Pong, Usage
from mlxnode.messages.data import Abort, Embed, Generate

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "x"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 99},
    "/v1/responses": {"input": "hi"},
}


def told(worker) -> list[RequestFigures]:
    """The requests of the worker, which has read all orders before."""
    worker.send(Ping(1))
    pong = worker.wait_for(Pong)
    assert pong.num_requests == len(pong.requests)
    return pong.requests


def told_until(worker, is_wanted) -> RequestFigures:
    """The only request, once it is as wanted: a worker does other things between two pings."""
    for _ in range(20_000):
        requests = told(worker)
        if len(requests) == 1 and is_wanted(requests[0]):
            return requests[0]
    raise AssertionError(f"never: {requests}")


def cancel(worker, request: RequestFigures) -> None:
    worker.send(Cancel(request.id))


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answer_of(connection: socket.socket) -> tuple[int, dict]:
    """The status and the body of an answer with a length."""
    reader = connection.makefile("rb")
    status = int(reader.readline().split()[1])
    head = dict(line.lower().split(b": ", 1) for line in iter(reader.readline, b"\r\n"))
    return status, json.loads(reader.read(int(head[b"content-length"])))


def check_cancelled(connection: socket.socket) -> None:
    status, body = answer_of(connection)
    assert (status, body["error"]["code"]) == (499, "request_cancelled")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_a_cancelled_request_gets_an_error_of_its_format_and_frees_the_engine(
    worker, path, is_stream
):
    engine = worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    body = BODIES[path] | {"model": "tiny-chat", "stream": is_stream}
    with post(worker, path, **body) as connection:
        uid = engine.next(Generate).uid
        request = told_until(worker, lambda request: request.state == "generating")
        assert (request.path, request.model) == (path, "tiny-chat")
        assert (request.is_stream, request.completion_tokens) == (is_stream, 3)
        assert request.prompt_tokens > 0 and not request.is_background
        cancel(worker, request)
        assert engine.next(Abort).uid == uid
        assert told(worker) == []
        if is_stream:
            text = connection.recv(65536)
            while b"cancelled" not in text:
                text += connection.recv(65536)
            last = json.loads(text.rpartition(b"data: ")[2].partition(b"\n\n")[0])
            assert "request_cancelled" in json.dumps(last), text
            assert text.startswith(b"HTTP/1.1 200 ") and b"[DONE]" not in text
        else:
            status, answer = answer_of(connection)
            assert status == 499 and "request_cancelled" in json.dumps(answer)
    used = worker.usages.get(timeout=WAIT)
    assert (used.prompt, used.completion) == (request.prompt_tokens, 3)


def test_a_connection_serves_on_after_a_cancelled_request(worker):
    worker.engine.is_silent = True
    with chat(worker) as connection:
        worker.engine.next(Generate)
        cancel(worker, told_until(worker, lambda request: request.state == "waiting"))
        check_cancelled(connection)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_of(connection)[0] == 200


def test_a_request_that_waits_for_vectors_is_cancelled(worker):
    worker.engine.is_silent = True
    with post(worker, "/v1/embeddings", model="tiny-embedding", input="abc") as connection:
        uid = worker.engine.next(Embed).uid
        request = told_until(worker, lambda request: request.state == "waiting")
        assert request.prompt_tokens > 0
        cancel(worker, request)
        check_cancelled(connection)
    assert worker.engine.next(Abort).uid == uid


def test_a_request_is_cancelled_while_its_body_comes(worker):
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        connection.sendall(head.encode() + b"{")
        request = told_until(worker, lambda request: request.state == "preparing")
        assert (request.model, request.path) == (None, "/v1/embeddings")
        cancel(worker, request)
        check_cancelled(connection)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""  # the rest of the body is no further request
    assert told(worker) == []


def test_a_sdk_sees_the_error_of_a_stream_and_does_not_try_again(worker):
    engine = worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    client = worker.client(max_retries=2)
    stream = client.completions.create(model="tiny-chat", prompt="x", stream=True)
    assert next(iter(stream)).choices[0].text == "abc"
    cancel(worker, told_until(worker, lambda request: True))
    with pytest.raises(openai.APIError, match="cancelled") as raised:
        list(stream)
    assert raised.value.code == "request_cancelled"
    engine.next(Generate)
    engine.is_silent = True
    with chat(worker) as connection:  # the next request that the engine gets
        engine.next(Generate)
        cancel(worker, told_until(worker, lambda request: True))
        check_cancelled(connection)


def test_a_sdk_raises_for_a_request_without_a_stream_and_asks_once(worker):
    engine, client = worker.engine, worker.client(max_retries=2)
    engine.is_silent = True
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(client.completions.create, model="tiny-chat", prompt="x")
        engine.next(Generate)
        cancel(worker, told_until(worker, lambda request: request.state == "waiting"))
        error = asked.exception(WAIT)
    assert isinstance(error, openai.APIStatusError) and error.status_code == 499
    assert engine.next(Abort) and engine.received.empty()


def test_a_second_cancel_and_one_after_the_end_do_nothing(worker):
    worker.engine.is_silent = True
    with chat(worker) as connection:
        uid = worker.engine.next(Generate).uid
        request = told_until(worker, lambda request: request.state == "waiting")
        for _ in range(3):
            cancel(worker, request)
        cancel(worker, msgspec.structs.replace(request, id="1-1"))
        check_cancelled(connection)
        cancel(worker, request)
        assert told(worker) == []
        worker.engine.is_silent = False
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_of(connection)[0] == 200
    assert worker.engine.next(Abort).uid == uid and worker.engine.received.empty()


def test_a_cancel_that_comes_with_the_end_leaves_the_answer_whole_or_cancelled(worker):
    engine = worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "abc")
    for _ in range(20):
        with chat(worker, stream=True) as connection:
            uid = engine.next(Generate).uid
            request = told_until(worker, lambda request: request.state == "generating")
            engine.update(uid, "d", "stop")  # over another pipe: either can be the first
            cancel(worker, request)
            text = connection.recv(65536)
            while not text.endswith(b"0\r\n\r\n"):
                text += connection.recv(65536)
            assert (b"[DONE]" in text) != (b"request_cancelled" in text)
    assert told(worker) == []


def test_a_request_of_several_choices_ends_as_one(worker):
    engine = worker.engine
    engine.on_generate = lambda message: engine.update(message.uid, "ab")
    with chat(worker, n=3) as connection:
        uids = {engine.next(Generate).uid for _ in range(3)}
        request = told_until(worker, lambda request: request.completion_tokens == 6)
        cancel(worker, request)
        check_cancelled(connection)
    assert {engine.next(Abort).uid for _ in range(3)} == uids
    used: Usage = worker.usages.get(timeout=WAIT)
    assert used.completion == 6


def test_a_client_that_left_is_in_flight_no_more(worker):
    worker.engine.is_silent = True
    with chat(worker, stream=True):
        uid = worker.engine.next(Generate).uid
        told_until(worker, lambda request: request.state == "waiting")
    assert worker.engine.next(Abort).uid == uid
    for _ in range(20_000):
        if not told(worker):
            return
    raise AssertionError("still in flight")


def test_probes_and_refused_requests_are_not_in_flight(worker):
    with chat(worker) as busy:
        assert answer_of(busy)[0] == 200
        assert told(worker) == []  # an idle connection is no request
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as stranger:
        stranger.sendall(head.encode())  # without a key
        assert answer_of(stranger)[0] == 401
        assert told(worker) == []
    headers = {"authorization": f"Bearer {worker.admin_key}"}
    assert httpx.get(f"{worker.url}/v1/requests", headers=headers).status_code == 503
    assert told(worker) == []


@pytest.mark.long
def test_a_cancel_while_the_worker_drains_ends_the_request(own_worker):
    own_worker.engine.is_silent = True
    with chat(own_worker) as connection:
        own_worker.engine.next(Generate)
        request = told_until(own_worker, lambda request: request.state == "waiting")
        own_worker.send(Drain(WAIT))
        cancel(own_worker, request)
        check_cancelled(connection)
        assert read_all(connection) == b""
    own_worker.process.join(WAIT)
    assert own_worker.process.exitcode == 0
