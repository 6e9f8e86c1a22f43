"""What workers report and log of each request, whatever its endpoint and its end."""

import json
import queue
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
import pytest
from support.bare_requests import WAIT, chat

from mlxnode.messages.control import Drain, Limit, Ping, Pong, Reserved, Usage
from mlxnode.messages.data import Abort, Failed, Generate

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "sk-secret-of-the-client"


class Log:
    """The request log of one worker, read as far as its requests have ended."""

    def __init__(self, path: Path):
        self.path = path
        self._num_read = 0

    def next(self) -> dict[str, Any]:
        """The next line, which may be still to come."""
        paused = threading.Event()
        for _ in range(2000):
            lines = self.path.read_text().split("\n")[:-1]
            if len(lines) > self._num_read:
                self._num_read += 1
                return json.loads(lines[self._num_read - 1])
            paused.wait(0.01)
        raise AssertionError("no further line")

    def check_end(self, worker) -> None:
        """No further line comes, also when the worker has ended."""
        worker.send(Drain(0.1))
        worker.process.join(WAIT)
        assert len(self.path.read_text().split("\n")) - 1 == self._num_read


@pytest.fixture(scope="module")
def logged(start_worker, served_models, tmp_path_factory):
    """A worker with keys and a request log."""
    path = tmp_path_factory.mktemp("log") / "requests.jsonl"
    server = {
        "request_log": "json",
        "request_log_file": str(path),
        "max_body_bytes": 100_000,
        "keep_alive_after": 0.0,
    }
    api = {"max_requests_per_minute": 1000}
    with start_worker(served_models, api, server) as worker:
        worker.connect_engine()
        worker.log = Log(path)
        yield worker
        worker.log.check_end(worker)


@pytest.fixture
def worker(logged):
    """The same, without what the test before has caused."""
    logged.settle()
    return logged


@pytest.fixture
def client(worker):
    with httpx.Client(base_url=worker.url, headers=worker.headers, timeout=WAIT) as client:
        yield client


def usage_of(worker) -> Usage:
    """The only request that was reported since the last test, without its times."""
    [usage] = usages_of(worker)
    return msgspec.structs.replace(usage, first_output=None, inter_token=None)


def usages_of(worker) -> list[Usage]:
    worker.send(Ping(1))
    worker.wait_for(Pong)  # it comes after all that was reported
    found = []
    while True:
        try:
            found.append(worker.usages.get_nowait())
        except queue.Empty:
            return found


ENDPOINTS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "org/tiny-text", "prompt": ["abc", "de"], "n": 2},
    "/v1/responses": {"model": "tiny-chat", "input": "hi"},
    "/v1/messages": CHAT | {"max_tokens": 50},
}


def last_usage(text: str) -> dict[str, int]:
    """The last usage in a document or in the events of a stream."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        line = line.removeprefix("data: ")
        if line.startswith("{"):
            event = json.loads(line)
            for holder in (event, event.get("response") or {}, event.get("message") or {}):
                found |= holder.get("usage") or {}
    return found


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_usage_is_what_the_client_is_told(worker, client, path, is_stream):
    body = ENDPOINTS[path] | {"stream": is_stream}
    if is_stream and "completions" in path:
        body["stream_options"] = {"include_usage": True}
    answer = client.post(path, json=body)
    assert answer.status_code == 200
    told = last_usage(answer.text)
    prompt = told.get("prompt_tokens") or told["input_tokens"]
    completion = told.get("completion_tokens") or told["output_tokens"]
    assert prompt > 0 and completion > 0
    key = worker.log.next()["key"]
    assert usage_of(worker) == Usage(key, body["model"], prompt, 0, completion)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["abc", "de"]}),
        ("/v1/rerank", {"query": "abc", "documents": ["d", "e"]}),
        ("/v1/score", {"text_1": "abc", "text_2": ["d", "e"]}),
    ],
)
def test_usage_of_vectors_and_scores_has_their_prompt_tokens(worker, client, path, body):
    answer = client.post(path, json=body | {"model": "tiny-embedding"})
    assert answer.status_code == 200
    line = worker.log.next()
    usage = usage_of(worker)
    assert usage == Usage(line["key"], "tiny-embedding", line["prompt_tokens"], 0, 0)
    assert usage.prompt > 0
    told = answer.json()["usage"]
    assert told.get("prompt_tokens", told["total_tokens"]) == usage.prompt


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"model": "tiny-chat", "prompt": "abc"}),
        ("/detokenize", {"model": "tiny-chat", "tokens": [100]}),
        ("/v1/messages/count_tokens", CHAT),
        ("/v1/responses/input_tokens", {"model": "tiny-chat", "input": "hi"}),
    ],
)
def test_usage_of_counts_is_a_request_without_tokens(worker, client, path, body):
    assert client.post(path, json=body).status_code == 200
    assert usage_of(worker) == Usage(worker.log.next()["key"], "tiny-chat", 0, 0, 0)


def test_line_of_an_answer_says_who_asked_what_and_how_long_it_took(worker, client):
    answer = client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine"})
    line = worker.log.next()
    told = answer.json()["usage"]
    assert line | {"time": "", "asked_s": 0, "first_token_s": 0, "total_s": 0} == {
        "time": "",
        "id": "mine",
        "key": usage_of(worker).key,
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "tiny-chat",
        "status": 200,
        "outcome": "done",
        "error": None,
        "prompt_tokens": told["prompt_tokens"],
        "cached_tokens": 0,
        "completion_tokens": told["completion_tokens"],
        "asked_s": 0,
        "first_token_s": 0,
        "total_s": 0,
        "trace_id": None,
        "span_id": None,
        "background": False,
    }
    assert 0 <= line["asked_s"] <= line["first_token_s"] <= line["total_s"]
    assert line["time"].endswith("Z") and line["time"][:2] == "20"


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "error"),
    [
        ("GET", "/health", {}, 200, None),
        ("GET", "/v1/models", {}, 200, None),
        ("GET", "/v1/nothing", {}, 404, "unknown_url"),
        ("GET", "/v1/chat/completions", {}, 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", {"content": b"{"}, 400, "invalid_request_error"),
        (
            "POST",
            "/v1/chat/completions",
            {"json": CHAT | {"model": "x"}},
            404,
            "model_not_found",
        ),
        ("POST", "/v1/chat/completions", {"content": b" " * 200_000}, 413, "request_too_large"),
        (
            "POST",
            "/v1/chat/completions",
            {"json": CHAT, "headers": {"authorization": f"Bearer {SECRET}"}},
            401,
            "invalid_api_key",
        ),
    ],
)
def test_each_refusal_is_one_line_and_no_usage(
    worker, client, method, path, options, status, error
):
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    line = worker.log.next()
    assert (line["status"], line["error"]) == (status, error)
    assert line["outcome"] == ("refused" if error else "done")
    assert line["id"] == answer.headers["x-request-id"]
    assert (line["prompt_tokens"], line["completion_tokens"]) == (0, 0)
    assert usages_of(worker) == []


def test_key_over_its_limit_is_one_line_with_its_model(worker, client):
    worker.refuse = Reserved(0, "requests", 1.5, Limit(1, 0, 60.0), None)
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 429
    line = worker.log.next()
    assert (line["status"], line["outcome"]) == (429, "refused")
    assert (line["error"], line["model"]) == ("rate_limit_exceeded", "tiny-chat")
    assert usages_of(worker) == []


@pytest.mark.parametrize(
    "head",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /{SECRET}?key={SECRET} HTTP/1.1\r\nHost: x\r\napi-key: {SECRET}\r\n\r\n".encode(),
        f"{SECRET} /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: {SECRET}\r\n\r\n".encode(),
    ],
)
def test_what_is_no_request_is_one_line_without_what_the_client_sent(worker, head):
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        connection.sendall(head)
        status = int(connection.recv(65536).split()[1])
    line = worker.log.next()
    assert (line["status"], line["outcome"]) == (status, "refused")
    assert (line["path"], line["model"], line["key"]) == (None, None, None)
    assert SECRET not in worker.log.path.read_text()
    assert usages_of(worker) == []


def test_prompts_answers_and_keys_are_in_no_line(worker, client):
    worker.engine.answer = "Fourier"
    body = CHAT | {"messages": [{"role": "user", "content": SECRET}], "user": SECRET}
    client.post(f"/v1/chat/completions?api-key={SECRET}", json=body, headers={"cookie": SECRET})
    worker.log.next()
    client.get(f"/v1/responses/{SECRET}")
    assert worker.log.next()["path"] == "/v1/responses/<response_id:str>"
    text = worker.log.path.read_text()
    assert not any(word in text for word in (SECRET, "Fourier", worker.key))


def test_client_that_leaves_a_stream_is_charged_what_it_got(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    connection = chat(worker, stream=True)
    while b"abc" not in connection.recv(65536):
        pass
    connection.close()
    prompt = len(worker.engine.next(Generate).prompt)
    worker.engine.next(Abort)
    line = worker.log.next()
    assert (line["status"], line["outcome"], line["error"]) == (200, "left", None)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (prompt, 3)
    assert usage_of(worker) == Usage(line["key"], "tiny-chat", prompt, 0, 3)


def test_usage_has_the_time_to_the_first_token(worker, client):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc", "stop")
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    line = worker.log.next()
    [usage] = usages_of(worker)
    assert usage.first_output == pytest.approx(line["first_token_s"], abs=0.001)


def test_client_that_leaves_before_its_answer_is_charged_its_prompt(worker):
    worker.engine.is_silent = True
    connection = chat(worker)
    prompt = len(worker.engine.next(Generate).prompt)
    connection.close()
    worker.engine.next(Abort)
    line = worker.log.next()
    assert line["outcome"] == "left" and line["first_token_s"] is None
    assert usage_of(worker) == Usage(line["key"], "tiny-chat", prompt, 0, 0)


@pytest.mark.parametrize("is_stream", [False, True])
def test_request_that_the_engine_refuses_is_not_counted(worker, client, is_stream):
    engine = worker.engine
    engine.on_generate = lambda m: engine.send(Failed(m.uid, "overloaded", "full"))
    answer = client.post("/v1/chat/completions", json=CHAT | {"stream": is_stream})
    line = worker.log.next()
    assert line["status"] == answer.status_code
    assert (line["outcome"], line["error"]) == ("failed", "server_is_overloaded")
    assert usages_of(worker) == []


def test_stream_that_fails_on_the_way_is_charged_what_was_computed(worker):
    def fail_late(message: Generate) -> None:
        worker.engine.update(message.uid, "abc")
        late.append(message)

    late: list[Generate] = []
    worker.engine.on_generate = fail_late
    with chat(worker, stream=True) as connection:
        while b"abc" not in connection.recv(65536):
            pass
        worker.engine.send(Failed(late[0].uid, "internal", "NaN"))
        while b"NaN" not in connection.recv(65536):
            pass
    line = worker.log.next()
    assert (line["status"], line["outcome"], line["error"]) == (200, "failed", "server_error")
    assert usage_of(worker).completion == line["completion_tokens"] == 3


def test_client_that_sends_no_body_and_leaves_is_one_line(worker):
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\n"
            + f"Authorization: Bearer {worker.key}\r\n\r\n{{".encode()
        )
    line = worker.log.next()
    assert line["outcome"] in ("left", "refused") and line["model"] is None
    assert usages_of(worker) == []
