"""What every response has: envelope and ids."""

import httpx2 as httpx
import pytest

# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("GET", "/v1/unknown", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/x", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("TRACE", "/health", 405, "method_not_allowed"),
        ("BREW", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_errors_are_openai_s_envelope(worker, method, path, status, code):
    response = httpx.request(method, worker.url + path)
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert path in error["message"]
    assert ("allow" in response.headers) == (status == 405)


def test_allow_names_the_methods(worker):
    assert httpx.post(f"{worker.url}/v1/models").headers["allow"] == "GET, HEAD"


# --- headers ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nope"])
def test_headers_of_every_response(plain_worker, path):
    headers = httpx.get(plain_worker.url + path).headers
    assert headers["x-request-id"].startswith("req_")
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["openai-version"] == "2020-10-01"
    assert "alt-svc" not in headers


@pytest.mark.parametrize(
    ("own", "is_kept"), [("my-id-1", True), ("x" * 129, False), ("a\tb", False), ("", False)]
)
def test_request_id_of_the_client(plain_worker, own, is_kept):
    headers = httpx.get(f"{plain_worker.url}/health", headers={"x-request-id": own}).headers
    assert (headers["x-request-id"] == own) == is_kept
