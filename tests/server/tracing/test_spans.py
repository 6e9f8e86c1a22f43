"""What a collector gets from a worker: one span for each request, with its parts."""

import itertools
import socket
import threading
import time

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT, chat
from support.otlp_receiver import OtlpReceiver

from mlxnode.messages.control import Drain, Limit, Reserved
from mlxnode.messages.data import (
    Abort,
    Embedded,
    Failed,
    Generate,
    Timing,
    Token,
    Tokens,
    Update,
)

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, ERROR = 2, 2  # of the kind and of the status
TIMING = Timing(queued=0.03125, computed=0.0625)


def answer_after(worker, pause: threading.Event) -> None:
    """The engine tells its times with the first of three tokens; the last waits for a pause."""

    def on_generate(message: Generate) -> None:
        first, *rest = [Token(id, -1.0) for id in worker.engine.ids("abc")]
        pause.wait(0.1)  # as long as TIMING says, or a little more
        worker.engine.send(Tokens([Update(uid=message.uid, tokens=[first], timing=TIMING)]))
        pause.wait(0.1)
        worker.engine.send(Tokens([Update(uid=message.uid, tokens=rest, finish="length")]))

    worker.engine.on_generate = on_generate


def in_order(spans, *names: str) -> None:
    """The parts are within the request, and each begins where the one before it ends."""
    whole = spans[""]
    assert set(spans) == {"", *names}
    for name in names:
        assert whole.begin <= spans[name].begin <= spans[name].end <= whole.end
        assert spans[name].trace_id == whole.trace_id
        assert spans[name].parent == whole.span_id
    for before, after in itertools.pairwise(names[:-1]):  # "write" is beside them
        assert abs(spans[after].begin - spans[before].end) <= 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_request_is_a_span_with_its_parts(worker, client, collector, is_stream):
    answer_after(worker, threading.Event())
    answer = client.post("/v1/chat/completions", json=CHAT | {"stream": is_stream})
    assert answer.status_code == 200
    spans = collector.trace(answer.headers["x-request-id"])
    in_order(spans, "prepare", "queue", "prefill", "decode", "write")
    whole = spans[""]
    assert (whole.name, whole.kind, whole.status) == ("POST /v1/chat/completions", SERVER, 0)
    assert whole.parent == ""
    assert spans["queue"].seconds == pytest.approx(0.03125, abs=1e-6)
    assert spans["prefill"].seconds == pytest.approx(0.0625, abs=1e-6)
    assert spans["decode"].seconds >= 0.1
    if is_stream:  # it begins with the first token, or before
        assert spans["write"].seconds >= 0.1
    else:
        assert spans["write"].begin >= spans["decode"].end
    facts = whole.attributes
    usage = len(worker.engine.next(Generate).prompt)
    assert {name: facts[name] for name in facts if name.startswith("gen_ai.")} == {
        "gen_ai.provider.name": "mlxnode",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny-chat",
        "gen_ai.response.model": "tiny-chat",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": usage,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 3,
    }
    assert facts["http.request.method"] == "POST"
    assert facts["http.route"] == facts["url.path"] == "/v1/chat/completions"
    assert facts["http.response.status_code"] == 200
    assert facts["mlxnode.outcome"] == "done"
    assert "error.type" not in facts
    assert whole.resource["service.name"] == "mlxnode"
    assert whole.resource["deployment.environment.name"] == "test"
    assert collector.headers[-1]["authorization"] == "Bearer collector"


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        ("/v1/responses", {"model": "tiny-chat", "input": "hi"}, "chat"),
        ("/v1/messages", CHAT | {"max_tokens": 5}, "chat"),
        ("/v1/completions", {"model": "org/tiny-text", "prompt": "ab"}, "text_completion"),
    ],
)
def test_every_endpoint_that_generates_has_the_same_parts(
    worker, client, collector, path, body, operation
):
    answer_after(worker, threading.Event())
    answer = client.post(path, json=body)
    spans = collector.trace(answer.headers["x-request-id"])
    in_order(spans, "prepare", "queue", "prefill", "decode", "write")
    assert spans[""].attributes["gen_ai.operation.name"] == operation


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        ("/v1/embeddings", {"input": ["abc", "de"]}, "embeddings"),
        ("/v1/rerank", {"query": "abc", "documents": ["d", "e"]}, None),
    ],
)
def test_vectors_are_queued_and_computed(
    worker, client, collector, monkeypatch, path, body, operation
):
    send = worker.engine.send

    def with_times(message) -> None:
        if isinstance(message, Embedded):
            threading.Event().wait(0.1)
            message = Embedded(
                message.uid, message.dimensions, message.vectors, Timing(0.0625, 0.03125)
            )
        send(message)

    monkeypatch.setattr(worker.engine, "send", with_times)
    answer = client.post(path, json=body | {"model": "tiny-embedding"})
    assert answer.status_code == 200
    spans = collector.trace(answer.headers["x-request-id"])
    in_order(spans, "prepare", "queue", "compute", "write")
    assert spans["queue"].seconds == pytest.approx(0.0625, abs=1e-6)
    assert spans["compute"].seconds == pytest.approx(0.03125, abs=1e-6)
    facts = spans[""].attributes
    assert facts.get("gen_ai.operation.name") == operation
    assert facts["gen_ai.usage.input_tokens"] > 0


def test_span_is_a_child_of_the_clients_span(worker, client, collector):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1,b=2"}
    answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
    whole = collector.trace(answer.headers["x-request-id"])[""]
    assert (whole.trace_id, whole.parent, whole.state) == (TRACE, SPAN, "a=1,b=2")
    assert answer.headers["traceparent"] == f"00-{TRACE}-{whole.span_id}-01"


def test_client_without_a_span_is_told_the_trace(worker, client, collector):
    answer = client.post("/v1/chat/completions", json=CHAT)
    whole = collector.trace(answer.headers["x-request-id"])[""]
    assert answer.headers["traceparent"] == f"00-{whole.trace_id}-{whole.span_id}-01"


def test_what_the_client_does_not_sample_is_not_sent(worker, client, collector):
    unsampled = {"traceparent": f"00-{TRACE[::-1]}-{SPAN}-00"}
    assert client.post("/v1/chat/completions", json=CHAT, headers=unsampled).status_code == 200
    answer = client.post("/v1/chat/completions", json=CHAT)
    collector.trace(answer.headers["x-request-id"])  # it comes after the other one
    assert TRACE[::-1] not in {span.trace_id for span in collector.spans}


@pytest.mark.parametrize(
    "parent",
    ["", "garbage", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}"],
)
def test_invalid_parent_begins_a_trace(worker, client, collector, parent):
    answer = client.get("/v1/models", headers={"traceparent": parent})
    assert answer.status_code == 200
    whole = collector.trace(answer.headers["x-request-id"])[""]
    assert whole.parent == "" and whole.trace_id not in (TRACE, "0" * 32)


def test_two_parents_are_none(worker, client, collector):
    twice = [("traceparent", f"00-{TRACE}-{SPAN}-01")] * 2
    answer = client.get("/v1/models", headers=twice)
    assert collector.trace(answer.headers["x-request-id"])[""].parent == ""


def test_probes_are_spans_only_inside_a_trace(worker, client, collector):
    lonely = client.get("/health").headers["x-request-id"]
    inside = client.get("/health", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    spans = collector.trace(inside.headers["x-request-id"])
    assert spans[""].name == "GET /health"
    ids = {span.attributes.get("mlxnode.request_id") for span in collector.spans}
    assert lonely not in ids


@pytest.mark.parametrize(
    ("method", "path", "options", "name", "status", "error"),
    [
        ("GET", "/v1/secret-thing", {}, "HTTP", 404, "unknown_url"),
        (
            "POST",
            "/v1/chat/completions",
            {"json": CHAT | {"model": "x"}},
            "POST /v1/chat/completions",
            404,
            "model_not_found",
        ),
        (
            "POST",
            "/v1/chat/completions",
            {"json": CHAT, "headers": {"authorization": "Bearer sk-wrong"}},
            "POST /v1/chat/completions",
            401,
            "invalid_api_key",
        ),
    ],
)
def test_mistake_of_a_client_is_no_error_of_the_server(
    worker, client, collector, method, path, options, name, status, error
):
    answer = client.request(method, path, **options)
    spans = collector.trace(answer.headers["x-request-id"])
    whole = spans[""]
    assert (whole.name, whole.status) == (name, 0)
    assert whole.attributes["http.response.status_code"] == status
    assert whole.attributes["error.type"] == error
    assert not {"queue", "prefill", "decode"} & set(spans)
    assert "secret" not in str(whole)


def test_limit_of_a_key_is_told(worker, client, collector):
    worker.refuse = Reserved(0, "requests", 1.5, Limit(1, 0, 60.0), None)
    answer = client.post("/v1/chat/completions", json=CHAT)
    whole = collector.trace(answer.headers["x-request-id"])[""]
    assert whole.attributes["http.response.status_code"] == 429
    assert whole.attributes["error.type"] == "rate_limit_exceeded"


def test_failure_of_the_engine_is_an_error(worker, client, collector):
    engine = worker.engine
    engine.on_generate = lambda m: engine.send(Failed(m.uid, "overloaded", "full"))
    answer = client.post("/v1/chat/completions", json=CHAT)
    spans = collector.trace(answer.headers["x-request-id"])
    assert answer.status_code == 503
    assert (spans[""].status, spans[""].message) == (ERROR, "server_is_overloaded")
    in_order(spans, "prepare", "wait", "write")


def test_stream_that_fails_late_is_an_error_with_the_status_200(worker, collector):
    engine, late = worker.engine, []

    def fail_late(message: Generate) -> None:
        late.append(message)
        engine.update(message.uid, "abc")

    engine.on_generate = fail_late
    with chat(worker, stream=True) as connection:
        head = _until(connection, b"abc")
        engine.send(Failed(late[0].uid, "internal", "NaN"))
        _until(connection, b"NaN")
    whole = collector.trace(_id_in(head))[""]
    assert (whole.status, whole.message) == (ERROR, "server_error")
    assert whole.attributes["http.response.status_code"] == 200


def test_client_that_leaves_is_told_and_no_error(worker, collector):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    connection = chat(worker, stream=True)
    head = _until(connection, b"abc")
    connection.close()
    worker.engine.next(Abort)
    whole = collector.trace(_id_in(head))[""]
    assert whole.status == 0
    assert whole.attributes["mlxnode.outcome"] == "left"
    assert whole.attributes["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.response.finish_reasons" not in whole.attributes


def test_prompts_answers_and_keys_are_in_no_span(worker, client, collector):
    secret = "sk-secret-of-the-client"
    worker.engine.answer = "Fourier"
    body = CHAT | {"messages": [{"role": "user", "content": secret}], "user": secret}
    headers = {"cookie": secret, "baggage": f"a={secret}"}
    answer = client.post(f"/v1/chat/completions?api-key={secret}", json=body, headers=headers)
    collector.trace(answer.headers["x-request-id"])
    text = str(collector.spans)
    assert not any(word in text for word in (secret, "Fourier", worker.key))


@pytest.mark.long
def test_last_spans_are_sent_at_the_end_of_the_worker(start_worker, served_models, monkeypatch):
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "my-node")
        with start_worker(served_models, {}, {"tracing": True}) as worker:
            answer = httpx.get(f"{worker.url}/v1/models", headers=worker.headers)
            assert answer.status_code == 200 and not receiver.spans
            worker.send(Drain(0.1))
            worker.process.join(WAIT)
            assert worker.process.exitcode == 0
        whole = receiver.trace(answer.headers["x-request-id"])[""]
        assert whole.resource["service.name"] == "my-node"


@pytest.mark.long
def test_collector_that_is_down_costs_nothing_and_is_one_line(
    start_worker, served_models, monkeypatch, capfd
):
    with socket.create_server(("127.0.0.1", 0)) as held:
        closed = held.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    log = ""
    with start_worker(served_models, {}, {"tracing": True}) as worker:
        worker.connect_engine()
        with httpx.Client(base_url=worker.url, headers=worker.headers, timeout=WAIT) as client:
            for _ in range(50):  # more than the queue holds
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        paused, deadline = threading.Event(), time.monotonic() + WAIT
        while "spans are not sent" not in log and time.monotonic() < deadline:
            paused.wait(0.01)
            log += capfd.readouterr().err
        worker.send(Drain(0.1))
        worker.process.join(WAIT)
        assert worker.process.exitcode == 0
    log += capfd.readouterr().err
    assert log.count("spans are not sent") == 1
    assert "Traceback" not in log


def _until(connection, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


def _id_in(head: bytes) -> str:
    """The id of the request, in the head of its answer."""
    [line] = [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-request-id:")]
    return line.split(b":", 1)[1].strip().decode()
