"""Requests to a model whose tokenizer takes long to open."""

import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Iterator

import httpx2 as httpx
import openai
import pytest
from support.bare_requests import WAIT, post
from support.raw_sockets import read_until
from support.slow_opening import GATE, SLOW, run_slow_worker
from support.worker_process import WorkerProcess

from mlxnode.figures import RequestFigures
from mlxnode.messages.control import Cancel, Drain, Ping, Pong
from mlxnode.messages.data import Abort, Failed, Generate

CHAT = {"model": SLOW, "messages": [{"role": "user", "content": "hi"}], "stream": True}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": SLOW, "prompt": "x", "stream": True},
    "/v1/messages": CHAT | {"max_tokens": 9},
    "/v1/responses": {"model": SLOW, "input": "hi", "stream": True},
}
KEPT = dict.fromkeys(BODIES, b": keep-alive\n\n") | {"/v1/messages": b"event: ping\n"}
LAST = {
    "/v1/chat/completions": "data: [DONE]\n\n",
    "/v1/completions": "data: [DONE]\n\n",
    "/v1/messages": "event: message_stop\n",
    "/v1/responses": "event: response.completed\n",
}
TOO_LONG = "x" * 2000  # tokens, of 1,024


class Gate:
    """Lets the worker go on with the opening that waits, once there is one."""

    def __init__(self, path: str):
        self._path = path

    def let_go(self, problem: str = "") -> None:
        with open(self._path, "w") as gate:  # waits until somebody reads
            gate.write(f"{problem}\n")


@contextlib.contextmanager
def started_gated(start_worker, models, folder) -> Iterator[tuple[WorkerProcess, Gate]]:
    """A worker that can open all ``models``, and one more when the gate lets it."""
    path = str(folder / "gate")
    os.mkfifo(path)
    models = [*models, dataclasses.replace(models[0], id=SLOW, preload=False)]
    api, server = {"require_auth": False}, {"keep_alive_after": 0.1}
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(GATE, path)
            started = start_worker(models, api, server, run=run_slow_worker)
            worker = stack.enter_context(started)
        worker.connect_engine()
        yield worker, Gate(path)


@pytest.fixture(scope="module")
def gated(start_worker, served_models, tmp_path_factory):
    with started_gated(start_worker, served_models, tmp_path_factory.mktemp("gate")) as both:
        yield both


@pytest.fixture
def slow(gated):
    """The worker, which has not opened the model, and its gate."""
    worker, gate = gated
    worker.settle()
    for state in ("loaded", "unloaded"):
        worker.engine.tell(**{SLOW: state})
    paused = threading.Event()
    while status(worker) != "unloaded":
        paused.wait(0.01)
    return worker, gate


def status(worker) -> str:
    return httpx.get(f"{worker.url}/v1/models/{SLOW}").json()["status"]


def last_event(answer: str) -> dict:
    return json.loads(answer.rpartition("data: ")[2].partition("\n\n")[0])


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_is_kept_alive_while_its_model_is_opened(slow, path):
    worker, gate = slow
    worker.engine.answer = "Z"
    with post(worker, path, **BODIES[path]) as connection:
        begun = b""
        while begun.count(KEPT[path]) < 3:
            begun += connection.recv(65536)
        assert begun.startswith(b"HTTP/1.1 200") and b"text/event-stream" in begun
        assert worker.engine.received.empty()
        gate.let_go()
        assert worker.engine.next(Generate).model == SLOW
        rest = read_until(connection, b"0\r\n\r\n").decode()
    assert LAST[path] in rest and '"Z"' in rest


def test_the_sdks_read_a_stream_that_began_early(slow):
    worker, gate = slow
    client = worker.client()
    threading.Thread(target=gate.let_go).start()
    chunks = list(client.chat.completions.create(**CHAT))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello!"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("cause", ["opening", "prompt", "engine"])
def test_a_failure_after_an_early_start_is_the_last_event(slow, path, cause):
    worker, gate = slow
    body = json.loads(json.dumps(BODIES[path]))
    expected = {"opening": "bad file", "prompt": "context length", "engine": "out of it"}
    if cause == "prompt":
        text = json.dumps(body).replace('"hi"', f'"{TOO_LONG}"').replace('"x"', f'"{TOO_LONG}"')
        body = json.loads(text)
    worker.engine.on_generate = lambda message: worker.engine.send(
        Failed(message.uid, "internal", "out of it")
    )
    with post(worker, path, **body) as connection:
        begun = read_until(connection, KEPT[path])
        gate.let_go("bad file" if cause == "opening" else "")
        answer = (begun + read_until(connection, b"0\r\n\r\n")).decode()
    event = last_event(answer)
    error = event["response"]["error"] if "response" in event else event["error"]
    assert expected[cause] in error["message"] and LAST[path] not in answer
    if cause == "opening":
        assert status(worker) == "failed"
        worker.engine.tell(**{SLOW: "loaded"})  # somebody has made the engine load it


def test_the_sdk_raises_a_failure_after_an_early_start(slow):
    worker, gate = slow
    for create in (
        lambda client: client.chat.completions.create(**CHAT),
        lambda client: client.responses.create(model=SLOW, input="hi", stream=True),
    ):
        stream = create(worker.client())
        gate.let_go("bad file")
        with pytest.raises(openai.APIError, match="bad file"):
            list(stream)
        worker.engine.tell(**{SLOW: "loaded"})
        worker.engine.tell(**{SLOW: "unloaded"})


def test_a_request_without_a_stream_waits(slow):
    worker, gate = slow
    threading.Thread(target=gate.let_go).start()
    answer = worker.client().chat.completions.create(**CHAT | {"stream": False})
    assert answer.choices[0].message.content == "Hello!"


def test_others_are_served_while_a_model_is_opened(slow):
    worker, gate = slow
    with post(worker, "/v1/chat/completions", **CHAT) as connection:
        read_until(connection, KEPT["/v1/chat/completions"])
        client = worker.client()
        assert client.completions.create(model="tiny-chat", prompt="x").choices
        assert client.models.list().data and status(worker) == "unloaded"
        assert httpx.get(f"{worker.url}/openapi.json").status_code == 200
        gate.let_go()
        assert LAST["/v1/chat/completions"].encode() in read_until(connection, b"0\r\n\r\n")


def test_a_client_that_leaves_early_leaves_nothing_behind(slow):
    worker, gate = slow
    with post(worker, "/v1/chat/completions", **CHAT) as connection:
        read_until(connection, KEPT["/v1/chat/completions"])
    gate.let_go()
    answer = worker.client().chat.completions.create(**CHAT | {"stream": False})
    assert answer.choices
    # The worker may have asked the engine before it saw the client leave; then it aborts that.
    received = []
    while not worker.engine.received.empty():
        received.append(worker.engine.received.get())
    started = [message.uid for message in received if isinstance(message, Generate)]
    assert 1 <= len(started) <= 2
    assert {message.uid for message in received if isinstance(message, Abort)} <= set(started)


def test_many_requests_wait_for_one_opening(slow):
    worker, gate = slow
    answers = []

    def ask(path: str, body: dict) -> None:
        answers.append(httpx.post(f"{worker.url}{path}", json=body, timeout=WAIT).status_code)

    text = {"model": SLOW, "prompt": "x"}
    bodies = [(path, body | {"stream": False}) for path, body in BODIES.items()]
    bodies += [("/tokenize", text), ("/v1/messages/count_tokens", CHAT | {"max_tokens": 1})]
    threads = [threading.Thread(target=ask, args=each) for each in bodies]
    for thread in threads:
        thread.start()
    gate.let_go()  # a second opening would wait for ever
    for thread in threads:
        thread.join(WAIT)
    assert answers == [200] * len(bodies)


@pytest.mark.parametrize("stream", [True, False])
def test_a_drain_ends_a_request_whose_model_is_still_opened(
    start_worker, served_models, tmp_path, stream
):
    with started_gated(start_worker, served_models, tmp_path) as (worker, _):
        path, body = "/v1/chat/completions", CHAT | {"stream": stream}
        with post(worker, path, **body) as connection:
            begun = read_until(connection, KEPT[path]) if stream else b""
            while status(worker) != "loaded":  # the request comes first: it has been read
                continue
            worker.send(Drain(0.2))
            answer = (begun + read_until(connection, b"shutting down")).decode()
        assert answer.startswith("HTTP/1.1 200" if stream else "HTTP/1.1 503")


def in_flight(worker) -> list[RequestFigures]:
    worker.send(Ping(1))
    return worker.wait_for(Pong).requests


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", BODIES)
def test_a_request_that_waits_for_an_opening_is_cancelled_alone(slow, path, stream):
    worker, gate = slow
    with (
        post(worker, path, **BODIES[path] | {"stream": stream}) as connection,
        post(worker, "/tokenize", model=SLOW, prompt="other") as other,
    ):
        begun = read_until(connection, KEPT[path]) if stream else b""
        while len(in_flight(worker)) < 2:
            continue
        [request] = [one for one in in_flight(worker) if one.path == path]
        assert (request.state, request.is_stream) == ("preparing", stream)
        worker.send(Cancel(request.id))
        answer = begun + read_until(connection, b"request_cancelled")
        assert answer.startswith(b"HTTP/1.1 200 " if stream else b"HTTP/1.1 499 ")
        gate.let_go()
        assert read_until(other, b'"tokens"').startswith(b"HTTP/1.1 200 ")
    assert worker.engine.received.empty()
