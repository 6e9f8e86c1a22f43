"""Clients of HTTP/1.0, over bare sockets: no chunks, and the right end of each answer."""

import json
import socket

import pytest

from mlxnode.messages.data import Abort, Failed, Generate

WAIT = 20.0  # seconds
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
EVENT_STREAM = "text/event-stream; charset=utf-8"


def send(
    worker, body: dict | None, *headers: str, path: str = "/v1/chat/completions", on=None
) -> socket.socket:
    """Send a request of HTTP/1.0 over a new connection, or ``on`` an open one."""
    data = json.dumps(body).encode() if body else b""
    head = [
        f"{'POST' if body else 'GET'} {path} HTTP/1.0",
        f"Authorization: Bearer {worker.key}",
        *headers,
        *(["Content-Type: application/json", f"Content-Length: {len(data)}"] if body else []),
    ]
    connection = on or socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)
    connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
    return connection


def parse(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection; a reset is an error."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_whole(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """One answer of known length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    status, headers, body = parse(data)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    assert len(body) == int(headers["content-length"])
    return status, headers, body


def finish(worker, connection: socket.socket, mark: bytes) -> bytes:
    """Read until ``mark``, then let the engine end the answer."""
    data = b""
    while mark not in data:
        data += connection.recv(65536)
    worker.engine.update(worker.engine.next(Generate).uid, "lo!", "stop")
    return data


@pytest.mark.parametrize("headers", [[], ["Connection: keep-alive"], ["Connection: close"]])
def test_http10_stream_is_plain_and_ends_with_the_connection(worker, headers):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "Hel")
    with send(worker, CHAT | {"stream": True}, *headers) as connection:
        data = finish(worker, connection, b'"content":"Hel"')
        status, found, body = parse(data + read_all(connection))
    assert status.startswith("HTTP/1.1 200")
    assert "transfer-encoding" not in found and "content-length" not in found
    assert (found["connection"], found["content-type"]) == ("close", EVENT_STREAM)
    assert found["x-accel-buffering"] == "no" and found["x-request-id"]
    *events, last, rest = body.decode().split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "Hello!"


def test_http10_stream_comes_as_it_grows_and_fails_with_an_event(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "a")
    with send(worker, CHAT | {"stream": True}) as connection:
        uid = worker.engine.next(Generate).uid
        data = b""
        while b'"content":"a"' not in data:
            data += connection.recv(65536)
        worker.engine.send(Failed(uid, "internal", "the step failed"))
        data += read_all(connection)
    last = data.decode().split("\n\n")[-2]
    assert "the step failed" in json.loads(last.removeprefix("data: "))["error"]["message"]


def test_http10_client_that_leaves_ends_its_stream(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "a")
    with send(worker, CHAT | {"stream": True}) as connection:
        assert connection.recv(65536)
        uid = worker.engine.next(Generate).uid
    assert worker.engine.next(Abort).uid == uid


@pytest.mark.parametrize("path", ["/v1/models", "/nowhere", "/v1/chat/completions"])
def test_http10_answer_that_is_whole_has_its_length_and_closes(worker, path):
    body = CHAT if "chat" in path else None
    with send(worker, body, path=path) as connection:
        _, headers, answer = parse(read_all(connection))
    assert headers["connection"] == "close" and "transfer-encoding" not in headers
    assert int(headers["content-length"]) == len(answer) and json.loads(answer)


def test_http10_connection_is_kept_for_a_client_that_asks(worker):
    with send(worker, CHAT, "Connection: Keep-Alive") as connection:
        for _ in range(2):
            status, headers, _ = read_whole(connection)
            assert status.endswith("200 OK") and headers["connection"] == "keep-alive"
            send(worker, CHAT, "Connection: Keep-Alive", on=connection)
        read_whole(connection)
        worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "Hel")
        worker.engine.received.queue.clear()
        send(worker, CHAT | {"stream": True}, "Connection: Keep-Alive", on=connection)
        finish(worker, connection, b'"content":"Hel"')
        assert read_all(connection).endswith(b"data: [DONE]\n\n")


def test_http10_stream_that_is_refused_is_a_whole_answer(worker):
    with send(worker, CHAT | {"stream": True, "temperature": 9}) as connection:
        status, headers, body = parse(read_all(connection))
    assert " 400 " in status and int(headers["content-length"]) == len(body)


def test_http11_stream_is_chunked_and_keeps_the_connection(worker):
    data = json.dumps(CHAT | {"stream": True}).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "Hel")
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = finish(worker, connection, b'"content":"Hel"')
            while not answer.endswith(b"0\r\n\r\n"):
                received = connection.recv(65536)
                assert received, answer
                answer += received
            _, headers, _ = parse(answer)
            assert headers["transfer-encoding"] == "chunked"
            assert (headers["connection"], headers["x-accel-buffering"]) == ("keep-alive", "no")
