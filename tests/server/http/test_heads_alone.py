"""Requests that are refused by their head, before their body is read."""

import socket

import pytest
from support.raw_sockets import connect, head, read_all

pytestmark = pytest.mark.slow


LARGE = 15_000_000  # bytes
CHAT = "/v1/chat/completions"
LENGTH = f"Content-Length: {LARGE}"
REFUSED = [
    (401, "POST", CHAT, (LENGTH,), None),
    (401, "POST", CHAT, (LENGTH,), "sk-wrong"),
    (401, "POST", "/v1/embeddings", ("Transfer-Encoding: chunked",), None),
    (401, "POST", "/v1/embeddings", (LENGTH, "Content-Encoding: gzip"), None),
    (404, "POST", "/v1/nothing", (LENGTH,), None),
    (404, "PUT", "/v1/nothing", ("Transfer-Encoding: chunked",), "own"),
    (405, "POST", "/v1/models", (LENGTH,), "own"),
    (405, "DELETE", CHAT, (LENGTH,), None),
    (413, "POST", CHAT, ("Content-Length: 99999999",), "own"),
    (415, "POST", CHAT, (LENGTH, "Content-Encoding: br"), "own"),
    (200, "GET", "/health", (LENGTH,), None),
    (200, "GET", "/v1/models", ("Transfer-Encoding: chunked",), "own"),
]


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
@pytest.mark.parametrize(("status", "method", "path", "fields", "key"), REFUSED)
def test_a_head_is_answered_without_its_body(hasty, status, method, path, fields, key, expect):
    key = hasty.key if key == "own" else key
    with connect(hasty) as connection:
        connection.sendall(head(method, path, *fields, *expect, key=key))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert answer.count(b"HTTP/1.1 ") == 1  # no 100 Continue
    assert b"connection: close\r\n" in answer


def test_a_host_of_others_is_refused_without_the_body(plain_worker):
    data = head("POST", CHAT, LENGTH).replace(b"Host: x", b"Host: evil.example")
    with connect(plain_worker) as connection:
        connection.sendall(data)
        assert read_all(connection).startswith(b"HTTP/1.1 403 ")


def test_a_refused_body_is_no_second_request(hasty):
    inner = head("GET", "/health")
    with connect(hasty) as connection:
        connection.sendall(head("POST", CHAT, f"Content-Length: {len(inner) + 9}") + inner)
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_refused_requests_write_no_lines(start_worker, served_models, capfd):
    """50 of each kind; the engine's absence is told once."""
    garbage = [b"\0" * 50, b"GET\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"]
    heads = [head(method, path, *fields) for _, method, path, fields, _ in REFUSED]
    body = b'{"model":"org/tiny-text","prompt":"hi"}'
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        worker.engine.disconnect()
        length = f"Content-Length: {len(body)}"
        keyed = head("POST", "/v1/completions", length, key=worker.key) + body
        for data in [*garbage, *heads, keyed]:
            for _ in range(50):
                with connect(worker) as connection:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    read_all(connection)
    lines = [line for line in capfd.readouterr().err.splitlines() if "mlxnode" in line]
    told = [line for line in lines if "WARNING" in line or "ERROR" in line]
    assert len(told) <= 2, told
    assert all("engine" in line for line in told), told
