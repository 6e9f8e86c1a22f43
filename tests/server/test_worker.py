"""The life of a worker process: clients that leave, orders, and how it ends."""

import dataclasses
import os
import signal
import socket
import threading

import httpx2 as httpx
import openai
import pytest
from support.bare_requests import WAIT, chat, post

from mlxnode.messages.control import FailedModels, Ping, Pong, Stop
from mlxnode.messages.data import Abort, Embed, Generate

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
    del own_worker.engine.states["tiny-chat"]
    own_worker.engine.tell()
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
    assert {each.status for each in others} == {"loaded"}
