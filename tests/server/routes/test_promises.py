"""Headers of every response, and the promises that are easy to miss, over HTTP."""

import json
import socket

import httpx2 as httpx
import pytest
from support.contract import (
    CHAT,
    CHATS,
    EMBEDDING,
    ENDPOINTS,
    VECTORS,
    error_of,
    post,
)

from mlxnode.config.tables import ServerConfig
from mlxnode.messages.control import Limit, Reserved
from mlxnode.messages.data import Generate

# --- headers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/v1/models", {}, None, 200),
        ("HEAD", "/v1/models", {}, None, 200),
        ("POST", CHATS, {}, CHAT, 200),
        ("POST", CHATS, {}, CHAT | {"stream": True}, 200),
        ("POST", VECTORS, {}, EMBEDDING, 200),
        ("POST", VECTORS, {}, {}, 400),
        ("POST", VECTORS, {}, {"pad": "x" * 1_100_000}, 413),
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
    response = post(worker, CHATS, CHAT, **{"x-request-id": "mine-2"})
    error = error_of(response)
    assert response.status_code == 429
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert response.headers["x-request-id"] == "mine-2"
    assert response.headers["retry-after"] == "1"
    assert response.headers["retry-after-ms"] == "500"


def test_processing_time_is_that_of_the_whole_answer(worker):
    response = post(worker, CHATS, CHAT)
    assert (
        int(response.headers["openai-processing-ms"]) < response.elapsed.total_seconds() * 1e3
    )


# --- easy to miss -------------------------------------------------------------------


def test_head_has_no_body_whatever_the_status(worker):
    requests = [
        f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n\r\n"
        for path in ("/nothing", "/v1/models/nobody", VECTORS, "/health")
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
    assert post(worker, CHATS, body.encode()).status_code == 200
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
    assert model["context_length"] == model["max_model_len"] == 1024


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
