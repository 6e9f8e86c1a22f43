"""The table of errors and the promises that are easy to miss, row by row over HTTP."""

import json
import socket

import httpx2 as httpx
import pytest

from mlxnode.config import ServerConfig
from mlxnode.messages import Generate, Limit, Reserved
from mlxnode.server.schemas import ChatBody, CompletionBody, EmbeddingBody

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "org/tiny-text", "prompt": "Once"}
EMBEDDING = {"model": "tiny-embedding", "input": "a"}
ENDPOINTS = {
    "/v1/chat/completions": (ChatBody, CHAT),
    "/v1/completions": (CompletionBody, COMPLETION),
    "/v1/embeddings": (EmbeddingBody, EMBEDDING),
}
ALWAYS = ("x-request-id", "openai-processing-ms", "openai-version")
NOT_JSON = {
    "empty": b"",
    "cut": b'{"model": ',
    "array": b"[]",
    "null": b"null",
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": 1e999}',
    "duplicate key": b'{"model": "a", "model": "b"}',
    "lone surrogate": b'{"model": "\\ud800"}',
    "too deep": b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"model": "\xff"}',
    "byte order mark": b"\xef\xbb\xbf{}",
}


def post(worker, path, body, **headers):
    headers = worker.headers | {"content-type": "application/json"} | headers
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(worker.url + path, content=content, headers=headers)


def error_of(response) -> dict:
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str) and error["message"]
    assert all(name in response.headers for name in ALWAYS)
    return error


# --- the table of errors ------------------------------------------------------------


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_body_that_is_no_json_object(worker, path, body):
    response = post(worker, path, body)
    error = error_of(response)
    assert response.status_code == 400
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("path", "change", "param", "code", "told"),
    [
        ("/v1/chat/completions", {"model": ...}, "model", "missing_required_parameter", ""),
        (
            "/v1/chat/completions",
            {"messages": ...},
            "messages",
            "missing_required_parameter",
            "",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": 7}]},
            "messages[0].content",
            "invalid_type",
            "an integer",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
            "input_audio",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "assistant", "audio": {"id": "x"}}]},
            "messages[0].audio",
            "unsupported_parameter",
            "audio",
        ),
        (
            "/v1/chat/completions",
            {"temperature": 200},
            "temperature",
            "decimal_above_max_value",
            "200",
        ),
        ("/v1/chat/completions", {"top_p": -1}, "top_p", "decimal_below_min_value", "-1"),
        (
            "/v1/chat/completions",
            {"max_tokens": 0},
            "max_tokens",
            "integer_below_min_value",
            "0",
        ),
        ("/v1/chat/completions", {"seed": 2**63}, "seed", "integer_above_max_value", "2233"),
        (
            "/v1/chat/completions",
            {"seed": -(2**63) - 1},
            "seed",
            "integer_below_min_value",
            "2233",
        ),
        ("/v1/chat/completions", {"seed": 10**4000}, "seed", "integer_above_max_value", ""),
        (
            "/v1/chat/completions",
            {"stop": ["a"] * 5},
            "stop",
            "array_above_max_length",
            "4 item(s), got 5",
        ),
        (
            "/v1/chat/completions",
            {"audio": {"voice": "a"}},
            "audio",
            "unsupported_parameter",
            "",
        ),
        (
            "/v1/chat/completions",
            {"max_tokens": 500},
            "messages",
            "context_length_exceeded",
            "",
        ),
        ("/v1/completions", {"prompt": ...}, "prompt", "missing_required_parameter", ""),
        ("/v1/completions", {"prompt": "x" * 600}, "prompt", "context_length_exceeded", "512"),
        ("/v1/embeddings", {"input": ...}, "input", "missing_required_parameter", ""),
        ("/v1/embeddings", {"input": ""}, "input", "string_below_min_length", ""),
        ("/v1/embeddings", {"input": ["a", ""]}, "input[1]", "string_below_min_length", ""),
        ("/v1/embeddings", {"input": []}, "input", "array_below_min_length", ""),
        ("/v1/embeddings", {"input": [[]]}, "input[0]", "array_below_min_length", ""),
        ("/v1/embeddings", {"input": ["a"] * 2049}, "input", "array_above_max_length", "2048"),
        (
            "/v1/embeddings",
            {"input": ["a", "x" * 65]},
            "input[1]",
            "context_length_exceeded",
            "64 tokens, got 65",
        ),
        ("/v1/embeddings", {"dimensions": 5}, "dimensions", "unsupported_value", "4, 8, got 5"),
        (
            "/v1/embeddings",
            {"encoding_format": "int8"},
            "encoding_format",
            "unsupported_value",
            "",
        ),
    ],
)
def test_request_that_is_wrong(worker, path, change, param, code, told):
    body = {k: v for k, v in (ENDPOINTS[path][1] | change).items() if v is not ...}
    response = post(worker, path, body)
    error = error_of(response)
    assert response.status_code == 400
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        param,
        code,
    )
    assert told in error["message"]
    assert worker.engine.received.empty()


@pytest.mark.parametrize(
    ("path", "model", "status", "code"),
    [
        ("/v1/chat/completions", "gpt-4o", 404, "model_not_found"),
        ("/v1/completions", "gpt-4o", 404, "model_not_found"),
        ("/v1/embeddings", "gpt-4o", 404, "model_not_found"),
        ("/v1/chat/completions", "tiny-embedding", 400, "model_not_supported"),
        ("/v1/completions", "tiny-embedding", 400, "model_not_supported"),
        ("/v1/embeddings", "tiny-chat", 400, "model_not_supported"),
    ],
)
def test_model_that_is_not_for_this(worker, path, model, status, code):
    response = post(worker, path, ENDPOINTS[path][1] | {"model": model})
    error = error_of(response)
    assert response.status_code == status
    assert (error["param"], error["code"]) == ("model", code)
    if status == 400:
        assert "use it at /v1/" in error["message"]


@pytest.mark.parametrize(
    "change", [{"model": "m" * 100_000}, {"encoding_format": "f" * 100_000}]
)
def test_errors_do_not_repeat_a_long_value(worker, change):
    response = post(worker, "/v1/embeddings", EMBEDDING | change)
    message = error_of(response)["message"]
    assert len(message) <= 1000


def test_no_content_type(worker):
    response = httpx.post(f"{worker.url}/v1/completions", content=b"{}", headers=worker.headers)
    assert response.status_code == 400
    assert error_of(response)["code"] == "unsupported_content_type"


@pytest.mark.parametrize("stream", [False, True])
def test_no_engine_is_503_before_a_stream_too(worker, stream):
    worker.engine.disconnect()
    try:
        while httpx.get(f"{worker.url}/health").status_code == 200:
            pass  # until the end of the pipe has been seen
        response = post(worker, "/v1/chat/completions", CHAT | {"stream": stream})
    finally:
        worker.connect_engine()
    error = error_of(response)
    assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
    assert (error["type"], error["code"]) == (
        "service_unavailable_error",
        "server_is_overloaded",
    )


def test_engine_that_dies_within_a_stream_ends_it_with_an_error(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    body = CHAT | {"stream": True}
    url = f"{worker.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=worker.headers) as response:
        lines = response.iter_lines()
        while "abc" not in next(lines):
            pass
        worker.connect_engine()
        *_, last = [line for line in lines if line]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "server_error"


# --- fields that nobody documents ---------------------------------------------------

MOODY = CHAT | {"messages": [{"role": "user", "content": "hi", "mood": 1}]}
STRANGE = {"mirostat": 2} | MOODY


def test_unknown_fields_are_named_at_any_depth(worker):
    response = post(worker, "/v1/chat/completions", STRANGE)
    assert response.status_code == 200
    assert response.headers["x-mlxnode-ignored"] == "mirostat, messages[0].mood"


@pytest.fixture(scope="module")
def strict_worker(start_worker, served_models):
    server = {"strict_fields": True, "max_embedding_tokens": 100}
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        yield worker


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (STRANGE, "mirostat"),
        (MOODY, "messages[0].mood"),
    ],
)
def test_strict_fields_refuses_unknown_ones(strict_worker, body, param):
    response = post(strict_worker, "/v1/chat/completions", body)
    assert response.status_code == 400
    assert error_of(response) == {
        "message": f"Unrecognized request argument supplied: {param}",
        "type": "invalid_request_error",
        "param": param,
        "code": "unknown_parameter",
    }


def test_strict_fields_takes_documented_ones(strict_worker):
    body = CHAT | {"n": 1, "metadata": {"a": "b"}, "tools": [], "logprobs": None}
    response = post(strict_worker, "/v1/chat/completions", body)
    assert response.status_code == 200 and "x-mlxnode-ignored" not in response.headers


@pytest.mark.parametrize(("texts", "status"), [(["x" * 50] * 2, 200), (["x" * 51] * 2, 400)])
def test_embeddings_have_a_total(strict_worker, texts, status):
    response = post(strict_worker, "/v1/embeddings", EMBEDDING | {"input": texts})
    assert response.status_code == status
    if status == 400:
        error = error_of(response)
        assert (error["param"], error["code"]) == ("input", "max_tokens_per_request")
        assert "102 tokens, max 100" in error["message"]


# --- headers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/v1/models", {}, None, 200),
        ("HEAD", "/v1/models", {}, None, 200),
        ("POST", "/v1/chat/completions", {}, CHAT, 200),
        ("POST", "/v1/chat/completions", {}, CHAT | {"stream": True}, 200),
        ("POST", "/v1/embeddings", {}, EMBEDDING, 200),
        ("POST", "/v1/embeddings", {}, {}, 400),
        ("POST", "/v1/embeddings", {}, {"pad": "x" * 1_100_000}, 413),
        ("GET", "/v1/models", {"authorization": "Bearer wrong"}, None, 401),
        ("GET", "/v1/nothing", {}, None, 404),
        ("TRACE", "/v1/models", {}, None, 405),
    ],
)
def test_every_response_has_the_headers(worker, method, path, headers, body, status):
    headers = worker.headers | {"x-request-id": "mine-1"} | headers
    response = httpx.request(method, worker.url + path, json=body, headers=headers)
    assert response.status_code == status
    assert response.headers["x-request-id"] == "mine-1"
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.headers["openai-version"] == "2020-10-01"


def test_a_refusal_by_the_limits_has_the_headers(worker):
    full = Limit(60, 0, 30.0)
    worker.refuse = Reserved(0, "requests", 0.5, full, Limit(100_000, 100_000, 0.0))
    response = post(worker, "/v1/chat/completions", CHAT, **{"x-request-id": "mine-2"})
    error = error_of(response)
    assert response.status_code == 429
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert response.headers["x-request-id"] == "mine-2"
    assert response.headers["retry-after"] == "1"
    assert response.headers["retry-after-ms"] == "500"


def test_processing_time_is_that_of_the_whole_answer(worker):
    response = post(worker, "/v1/chat/completions", CHAT)
    assert (
        int(response.headers["openai-processing-ms"]) < response.elapsed.total_seconds() * 1e3
    )


# --- easy to miss -------------------------------------------------------------------


def test_head_has_no_body_whatever_the_status(worker):
    requests = [
        f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n\r\n"
        for path in ("/nothing", "/v1/models/nobody", "/v1/embeddings", "/health")
    ]
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall("".join(requests).encode())
        answer = b""
        while answer.count(b"\r\n\r\n") < len(requests):
            answer += connection.recv(65536)
    heads = answer.split(b"\r\n\r\n")
    assert [head[9:12] for head in heads] == [b"404", b"404", b"405", b"200", b""]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_null_is_unset(worker, path):
    schema, body = ENDPOINTS[path]
    optional = {*schema.model_fields, *schema.neutral} - body.keys()
    response = post(worker, path, dict.fromkeys(optional) | body)
    assert response.status_code == 200 and "x-mlxnode-ignored" not in response.headers


def test_integers_may_have_a_point(worker):
    body = json.dumps(CHAT)[:-1] + ', "max_tokens": 3.0, "seed": 1e2}'
    assert post(worker, "/v1/chat/completions", body.encode()).status_code == 200
    message = worker.engine.next(Generate)
    assert (message.max_tokens, message.sampling.seed) == (3, 100)


def test_created_does_not_change(worker):
    def facts(path: str) -> dict:
        return httpx.get(f"{worker.url}/v1/models{path}", headers=worker.headers).json()

    first = facts("")["data"]
    assert facts("")["data"] == first == [facts(f"/{model['id']}") for model in first]


def test_embedding_model_tells_its_sizes(worker):
    model = worker.client().models.retrieve("tiny-embedding").model_extra
    assert (model["type"], model["dimensions"]) == ("embedding", 8)
    assert model["context_length"] == model["max_model_len"] == 512


def test_connections_are_kept_longer_than_pooled_clients_use_them():
    assert ServerConfig().keep_alive_timeout >= 60


def test_a_connection_serves_many_requests_of_all_kinds(worker):
    bodies = [CHAT, {}, CHAT | {"stream": True}, CHAT]
    with httpx.Client(headers=worker.headers) as client:
        ports = []
        for body in bodies:
            url = f"{worker.url}/v1/chat/completions"
            with client.stream("POST", url, json=body) as response:
                response.read()
                stream = response.extensions["network_stream"]
                ports.append(stream.get_extra_info("client_addr"))
    assert len(set(ports)) == 1


def test_pipelined_requests_are_answered_in_order(worker):
    request = (
        f"GET /v1/models/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n%s\r\n"
    )
    data = request % ("tiny-chat", "") + request % ("org%2Ftiny-text", "Connection: close\r\n")
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall(data.encode())
        answer = b""
        while received := connection.recv(65536):
            answer += received
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'"tiny-chat"') < answer.index(b'"org/tiny-text"')
