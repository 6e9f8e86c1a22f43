"""Errors and limits as Anthropic's API tells them."""

import httpx2 as httpx
import pytest
from support.contract import post
from support.messages_requests import ASK, COUNT, MESSAGES, VERSION, ask, refused

from mlxnode.messages.control import Limit, Reserved


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "type"),
    [
        ("POST", MESSAGES, b"{", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"{}", {}, 400, "invalid_request_error"),
        ("POST", COUNT, b"{}", {}, 400, "invalid_request_error"),
        ("POST", f"{MESSAGES}?beta=true", b"{}", {}, 400, "invalid_request_error"),
        ("POST", "/messages/", b"{}", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"{}", {"authorization": "Bearer no"}, 401, "authentication_error"),
        ("POST", MESSAGES, b"{}", {"authorization": ""}, 401, "authentication_error"),
        ("POST", f"{MESSAGES}/batches", b"{}", {}, 404, "not_found_error"),
        ("GET", "/v1/nothing", b"", VERSION, 404, "not_found_error"),
        ("GET", "/v1/models/nobody", b"", VERSION, 404, "not_found_error"),
        ("GET", MESSAGES, b"", {}, 405, "invalid_request_error"),
        ("POST", MESSAGES, b"a" * 2_000_000, {}, 413, "request_too_large"),
        ("POST", "/v1/chat/completions", b"{}", VERSION, 400, "invalid_request_error"),
    ],
)
def test_every_error_has_anthropics_envelope(
    worker, method, path, content, headers, status, type
):
    response = httpx.request(
        method,
        worker.url + path,
        content=content,
        headers=worker.headers | {"content-type": "application/json"} | headers,
    )
    assert response.status_code == status
    answer = response.json()
    assert set(answer) == {"type", "error", "request_id"} and answer["type"] == "error"
    assert answer["error"]["type"] == type and answer["error"]["message"]
    assert answer["request_id"] == response.headers["request-id"]
    assert response.headers["request-id"] == response.headers["x-request-id"]


def test_other_routes_keep_openais_envelope(worker):
    response = post(worker, "/v1/chat/completions", {})
    assert list(response.json()["error"]) == ["message", "type", "param", "code"]


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"messages": None},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"system": 1},
        {"system": [{"type": "image"}]},
        {"temperature": 2.5},
        {"top_k": -2},
        {"tools": [{"input_schema": {}}]},
        {"thinking": {"type": "always"}},
        {"output_config": {"effort": "enormous"}},
        {"output_format": {"type": "json_schema"}},
        {"stop_sequences": ["a"] * 65},
    ],
)
def test_a_wrong_field_is_named(worker, change):
    error = refused(worker, **change)
    [name] = change
    assert name in error["message"] and error["details"]["param"].startswith(name)


def test_limits_are_told_by_anthropics_names(worker):
    headers = ask(worker).headers
    for kind in ("requests", "tokens"):
        for name in ("limit", "remaining"):
            own = headers[f"x-ratelimit-{name}-{kind}"]
            assert headers[f"anthropic-ratelimit-{kind}-{name}"] == own
        assert headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z")


def test_a_refusal_by_a_limit(worker):
    limits = Limit(60, 0, 30.0), Limit(100_000, 100_000, 0.0)
    worker.refuse = Reserved(0, "requests", 12.0, *limits)
    response = post(worker, MESSAGES, ASK)
    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.headers["retry-after"] == "12"


def test_a_page_may_read_the_headers(worker):
    response = post(worker, MESSAGES, ASK, origin=worker.origin)
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"request-id", "anthropic-ratelimit-tokens-remaining"} <= set(exposed)
