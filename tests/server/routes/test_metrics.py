"""/metrics of a worker: who reads it, in which form, and what was counted."""

import gzip
import json
import socket
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT, chat
from support.metrics import OPENMETRICS, Scrape, scrape, scrape_until

from mlxnode.messages.control import Cancel, Ping, Pong
from mlxnode.messages.data import Abort, Failed, Generate, Timing, Token, Tokens, Update

pytestmark = pytest.mark.slow
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
ROUTE = "/v1/chat/completions"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = TRACEPARENT.split("-")[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def worker(start_worker, served_models, folder):
    server = {
        "request_log": "json",
        "request_log_file": str(folder / "requests.jsonl"),
        "keep_alive_after": 0.0,
    }
    api = {"cors_enabled": True, "cors_origins": ["http://localhost:3000"]}
    with start_worker(served_models, api, server, metrics_folder=folder) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def admin(worker):
    return {"authorization": f"Bearer {worker.admin_key}"}


def until(worker, admin, condition) -> Scrape:
    return scrape_until(worker.url, condition, headers=admin)


def test_metrics_are_for_the_admin_key(worker, admin):
    url = f"{worker.url}/metrics"
    assert httpx.get(url).status_code == 401
    refused = httpx.get(url, headers=worker.headers)
    assert refused.status_code == 403 and "admin" in refused.json()["error"]["message"]
    answer = httpx.get(url, headers=admin)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert httpx.post(url, headers=admin).status_code == 405
    head = httpx.head(url, headers=admin)
    assert head.status_code == 200 and head.content == b""


def test_metrics_come_in_the_form_that_the_client_prefers(worker, admin):
    accept = {"accept": f"{OPENMETRICS};version=1.0.0;q=0.5,text/plain;q=0.3"}
    answer = httpx.get(f"{worker.url}/metrics", headers=admin | accept)
    assert answer.headers["content-type"].startswith(f"{OPENMETRICS}; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    httpx.get(f"{worker.url}/v1/models", headers=worker.headers)  # which is counted

    def has_requests(found: Scrape) -> bool:
        return "mlxnode_requests" in found.families

    assert scrape_until(worker.url, has_requests, headers=admin | accept)
    plain = {"accept-encoding": "identity"}
    with httpx.stream("GET", f"{worker.url}/metrics", headers=admin | plain) as answer:
        assert "content-encoding" not in answer.headers
    with httpx.stream(
        "GET", f"{worker.url}/metrics", headers=admin | {"accept-encoding": "gzip"}
    ) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        raw = b"".join(answer.iter_raw())
    assert b"mlxnode_requests_total" in gzip.decompress(raw)


def test_every_request_is_counted_by_its_end(worker, admin):
    before = scrape(worker.url, headers=admin)
    key = {"model": "tiny-chat", "key": worker.keys[0].id}
    with httpx.Client(base_url=worker.url, headers=worker.headers, timeout=WAIT) as client:
        for is_stream in (False, True, False):
            client.post(ROUTE, json=CHAT | {"stream": is_stream}).raise_for_status()
        answer = client.post("/v1/embeddings", json={"model": "tiny-embedding", "input": "ab"})
        assert answer.status_code == 200
        assert client.post(ROUTE, json=CHAT | {"model": "x"}).status_code == 404
        assert client.post(ROUTE, json=CHAT | {"temperature": 9}).status_code == 400
        assert client.get("/v1/nothing").status_code == 404
        assert client.get("/v1/models/x").status_code == 404
        worker.engine.on_generate = lambda message: worker.engine.send(
            Failed(message.uid, "overloaded", "full")
        )
        assert client.post(ROUTE, json=CHAT).status_code >= 500
        worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
        with chat(worker, stream=True) as stream:
            while b"abc" not in stream.recv(65536):
                pass
        worker.engine.next(Abort)
        worker.engine.reset()

    def counted(found: Scrape, **labels: str) -> float:
        name = "mlxnode_requests_total"
        return found.sum(name, **labels) - before.sum(name, **labels)

    def is_complete(found: Scrape) -> bool:
        return counted(found, outcome="left") == 1

    found = until(worker, admin, is_complete)
    assert counted(found, **key, route=ROUTE, status="200", outcome="done") == 3
    assert counted(found, route="/v1/embeddings", model="tiny-embedding", outcome="done") == 1
    assert counted(found, route=ROUTE, outcome="refused") == 2
    assert counted(found, route=ROUTE, outcome="failed") == 1
    assert counted(found, route="other", status="404", method="other") == 1
    assert counted(found, route="/v1/models/<model_id:path>", status="404") == 1
    assert counted(found, **key, route=ROUTE, outcome="left", status="200") == 1
    assert found.sum("mlxnode_refusals_total", reason="model_not_found") == 2
    assert "x" not in found.labels("mlxnode_requests_total", "model")
    usages = [worker.usages.get(timeout=WAIT) for _ in range(5)]
    for name, field in (("prompt", "prompt"), ("generated", "completion")):
        name = f"mlxnode_{name}_tokens_total"
        own = [getattr(one, field) for one in usages if one.model == "tiny-chat"]
        assert found.sum(name, **key) - before.sum(name, **key) == sum(own)
    assert worker.key not in found.text and worker.admin_key not in found.text


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("has_begun", [False, True])
def test_a_cancelled_request_has_failed_nowhere(
    worker, admin, folder, capfd, is_stream, has_begun
):
    labels = {"route": ROUTE, "key": worker.keys[0].id, "outcome": "cancelled"}
    labels["status"] = "200" if is_stream else "499"

    def counted(found: Scrape) -> float:
        return found.sum("mlxnode_requests_total", **labels)

    before = scrape(worker.url, headers=admin)
    worker.engine.is_silent = not has_begun
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    with chat(worker, stream=is_stream) as connection:
        worker.engine.next(Generate)
        received = b""
        while is_stream and (b"abc" if has_begun else b"200 OK") not in received:
            received += connection.recv(65536)
        worker.send(Ping(1))
        [request] = worker.wait_for(Pong).requests
        worker.send(Cancel(request.id))
        while b"request_cancelled" not in received:
            received += connection.recv(65536)
    until(worker, admin, lambda found: counted(found) == counted(before) + 1)
    after = scrape(worker.url, headers=admin)
    name = "mlxnode_requests_total"
    for outcome in ("failed", "refused"):
        assert after.sum(name, outcome=outcome) == before.sum(name, outcome=outcome)
    name, reason = "mlxnode_refusals_total", "request_cancelled"
    assert after.sum(name, reason=reason) == before.sum(name, reason=reason) + 1
    last = (folder / "requests.jsonl").read_text().split("\n")[:-1]
    lines = [line for line in map(json.loads, last) if line["id"] == request.request_id]
    assert [line["outcome"] for line in lines] == ["cancelled"]
    assert "WARNING" not in capfd.readouterr().err
    worker.engine.reset()


def test_times_of_the_engine_are_those_that_it_tells(worker, admin):
    before = scrape(worker.url, headers=admin)

    def answer(message):
        timing = Timing(0.5, 0.125)
        ids = worker.engine.ids("abcd")
        first = Update(
            uid=message.uid, tokens=[Token(ids[0], -1.0)], timing=timing, num_cached=2
        )
        rest = [
            Update(uid=message.uid, tokens=[Token(id, -1.0)], num_cached=2) for id in ids[1:]
        ]
        for update in (first, *rest, Update(uid=message.uid, finish="length", num_cached=2)):
            worker.engine.send(Tokens([update]))

    worker.engine.on_generate = answer
    done = httpx.post(
        f"{worker.url}{ROUTE}", json=CHAT | {"stream": True}, headers=worker.headers
    )
    assert done.status_code == 200
    worker.engine.reset()

    def grown(found: Scrape, name: str) -> float:
        name = f"mlxnode_{name}"
        return found.sum(name, model="tiny-chat") - before.sum(name, model="tiny-chat")

    found = until(worker, admin, lambda found: grown(found, "queue_seconds_count") == 1)
    assert grown(found, "queue_seconds_sum") == pytest.approx(0.5)
    assert grown(found, "prefill_seconds_sum") == pytest.approx(0.125)
    assert grown(found, "cached_tokens_total") == grown(found, "cached_prefix_tokens_sum") == 2
    assert grown(found, "generated_tokens_total") == 4
    # Tokens that arrive together come without a gap between them.
    assert grown(found, "inter_token_latency_seconds_count") <= 3
    assert grown(found, "time_to_first_token_seconds_count") == 1
    assert found.sum("mlxnode_keep_alives_total") >= 1  # the stream began before its tokens


def spans_of(file: Path, number: int) -> set[str]:
    """The spans of the trace in the request log, once there are so many."""
    paused = threading.Event()
    for _ in range(200):
        lines = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
        spans = {line["span_id"] for line in lines if line["trace_id"] == TRACE}
        if len(spans) >= number:
            return spans
        paused.wait(0.05)
    raise AssertionError(spans)


def test_a_trace_is_in_the_answer_and_in_the_log(worker, folder):
    given = worker.headers | {"traceparent": TRACEPARENT, "origin": worker.origin}
    with httpx.Client(base_url=worker.url, headers=given, timeout=WAIT) as client:
        answers = [
            client.post(ROUTE, json=CHAT),
            client.post(ROUTE, json=CHAT | {"stream": True}),
            client.get("/v1/nothing"),
            client.get("/v1/models", headers={"authorization": "Bearer wrong"}),
            client.post(ROUTE, content=b"{"),
        ]
    spans = set()
    for answer in answers:
        version, trace, span, flags = answer.headers["traceparent"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert "traceparent" in answer.headers["access-control-expose-headers"]
        spans.add(span)
    assert len(spans) == len(answers) and TRACEPARENT.split("-")[2] not in spans
    assert spans <= spans_of(folder / "requests.jsonl", len(spans))
    wrong = worker.headers | {"traceparent": TRACEPARENT.upper()}
    assert "traceparent" not in httpx.get(f"{worker.url}/v1/models", headers=wrong).headers
    preflight = {
        "origin": worker.origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "traceparent",
    }
    allowed = httpx.options(f"{worker.url}{ROUTE}", headers=preflight).headers
    assert "traceparent" in allowed["access-control-allow-headers"]


def test_metrics_can_be_public_and_off(start_worker, served_models):
    with start_worker(served_models, {}, {"metrics": "public", "tracing": True}) as worker:
        found = scrape(worker.url)
        assert found.sum("mlxnode_figures_up") == 0  # this test has no supervisor
        assert "mlxnode_requests" not in found.families  # nor a folder for counts
        answer = httpx.get(f"{worker.url}/health")
        assert answer.headers["traceparent"].startswith("00-")
    with start_worker(served_models, {}, {"metrics": "off"}) as worker:
        admin = {"authorization": f"Bearer {worker.admin_key}"}
        answer = httpx.get(f"{worker.url}/metrics", headers=admin)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_url"


def test_public_metrics_are_read_beyond_the_limit_of_connections(start_worker, served_models):
    server = {"metrics": "public", "max_connections": 1}
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as held:
            held.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert held.recv(65536).startswith(b"HTTP/1.1 200")
            assert httpx.get(f"{worker.url}/v1/models").status_code == 503
            assert scrape(worker.url).families
