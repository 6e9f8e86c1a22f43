"""Content types: any that is JSON's, or says nothing; from a web page JSON's alone."""

import socket

import httpx2 as httpx
import pytest
from support.contract import CHATS, error_of

BODY = b'{"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}'
# A page sends these to any server without a preflight, and a body without a type.
SIMPLE = [
    None,
    "",
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-8",
    "text/plain; x=application/json",
]
JSON = [
    "application/json",
    "Application/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=ISO-8859-1",
    "application/vnd.api+json",
    "application/ld+json; profile=x",
    "text/json",
]
OTHERS = ["multipart/form-data; boundary=x", "application/xml", "text/html", "json", "a/b+json"]


def ask(worker, content_type: str | None, **headers: str) -> httpx.Response:
    headers |= worker.headers
    if content_type is not None:
        headers["content-type"] = content_type
    return httpx.post(worker.url + CHATS, content=BODY, headers=headers)


@pytest.mark.parametrize("content_type", [*SIMPLE, *JSON, "application/octet-stream"])
def test_what_tools_send_is_served(worker, content_type):
    assert ask(worker, content_type).status_code == 200


@pytest.mark.parametrize("content_type", OTHERS)
def test_other_types_are_refused(worker, content_type):
    response = ask(worker, content_type)
    assert response.status_code == 400
    assert error_of(response)["code"] == "unsupported_content_type"


@pytest.mark.parametrize("content_type", JSON)
def test_page_that_names_json_is_served(worker, content_type):
    assert ask(worker, content_type, origin=worker.origin).status_code == 200


@pytest.mark.parametrize("content_type", SIMPLE)
@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://localhost:3000", ""])
def test_page_without_a_preflight_is_refused(plain_worker, content_type, origin):
    response = ask(plain_worker, content_type, origin=origin)
    assert response.status_code == 400
    assert error_of(response)["code"] == "unsupported_content_type"
    assert plain_worker.engine.received.empty()


def test_bare_request_of_http_is_served(worker):
    head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {worker.key}\r\n"
    head += f"Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall(head.encode() + BODY)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ") and b"Hello!" in answer
