"""The inner socket of a worker: requests of the node itself, for the keys that they name."""

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from support.worker_process import ADMIN_KEY, KEY, WorkerProcess, started_worker

from mlxnode.config.keys import ApiKey
from mlxnode.messages.control import Drain, Reserved
from mlxnode.messages.data import Embed, Generate

pytestmark = pytest.mark.slow

OWN = ApiKey.unnamed(KEY).id
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
LIMITED = {"max_requests_per_minute": 60}


class Inner:
    """A worker with an inner socket, and a client of that."""

    def __init__(self, worker: WorkerProcess, path: Path):
        self.worker = worker
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://evil.example"
        )

    def ask(self, key: str | None, body: dict = CHAT, url: str = "/v1/chat/completions"):
        headers = {} if key is None else {"x-mlxnode-key": key}
        return self.client.post(url, json=body, headers=headers)


@pytest.fixture
def start(served_models) -> Iterator:
    folder = Path(tempfile.mkdtemp(prefix="mlxnode-"))  # the path of a socket is short
    opened = []

    def start(api: dict, server: dict | None = None) -> Inner:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "inner"))
        listener.listen()
        block = started_worker(served_models, api, server, inner=listener)
        worker = block.__enter__()
        inner = Inner(worker, folder / "inner")
        opened.append((block, inner, listener))
        worker.connect_engine()
        return inner

    yield start
    for block, inner, listener in opened:
        inner.client.close()
        block.__exit__(None, None, None)
        listener.close()
    shutil.rmtree(folder)


def test_inner_socket_serves_the_key_that_is_named(start):
    inner = start(LIMITED)
    inner.worker.refuse = Reserved(0, "requests", 5.0, None, None)
    answer = inner.ask(OWN)
    assert answer.status_code == 200, answer.text  # no limit, and any Host
    assert inner.worker.usages.get(timeout=10).key == OWN
    assert inner.worker.reserved.empty()
    asked = inner.worker.engine.next(Generate)
    assert asked.background and asked.key == OWN
    vectors = inner.ask(OWN, {"model": "tiny-embedding", "input": "a"}, "/v1/embeddings")
    assert vectors.status_code == 200, vectors.text
    assert inner.worker.engine.next(Embed).background
    narrow = inner.ask("narrow")
    assert narrow.status_code == 404  # the key may use another model only


@pytest.mark.parametrize("key", [None, "", "unknown", "admin", "anonymous", KEY])
def test_inner_socket_refuses_other_keys(start, key):
    answer = start({}).ask(key)
    assert answer.status_code == 401, answer.text


def test_inner_socket_of_an_open_node_serves_anonymous_requests(start):
    inner = start({"require_auth": False})
    assert inner.ask("anonymous").status_code == 200
    assert inner.ask("unknown").status_code == 401


def test_header_of_the_key_counts_on_the_inner_socket_only(start):
    worker = start(LIMITED).worker
    url = f"{worker.url}/v1/chat/completions"
    sent = {"x-mlxnode-key": OWN}
    assert httpx.post(url, json=CHAT, headers=sent).status_code == 401
    answer = httpx.post(url, json=CHAT, headers=sent | worker.headers)
    assert answer.status_code == 200
    assert not worker.engine.next(Generate).background


def test_request_log_marks_what_comes_over_the_inner_socket(start, tmp_path):
    log = tmp_path / "requests.log"
    inner = start({}, {"request_log": "json", "request_log_file": str(log)})
    inner.ask(OWN)
    inner.ask("narrow")  # which is refused
    worker = inner.worker
    url = f"{worker.url}/v1/chat/completions"
    assert httpx.post(url, json=CHAT, headers=worker.headers).status_code == 200
    inner.client.close()
    worker.send(Drain(5.0))
    worker.process.join(10)  # by then, all lines are written
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["status"], line["background"]) for line in lines] == [
        (200, True),
        (404, True),
        (200, False),
    ]


def test_inner_socket_is_no_way_to_the_administrators_urls(start):
    inner = start({})
    for sent in ({"x-mlxnode-key": "admin"}, {"x-mlxnode-key": OWN}):
        assert inner.client.get("/admin/usage", headers=sent).status_code in (401, 403, 404)
    assert ADMIN_KEY not in inner.ask("admin").text


def test_inner_socket_refuses_requests_of_a_draining_worker(start):
    inner = start({})
    assert inner.ask(OWN).status_code == 200
    inner.worker.send(Drain(5.0))
    with contextlib.suppress(httpx.TransportError):  # its connections may be closed already
        while (answer := inner.ask(OWN)).status_code == 200:
            pass  # the order to drain travels on another pipe
        assert answer.status_code == 503
    inner.worker.process.join(10)
    assert inner.worker.process.exitcode == 0
