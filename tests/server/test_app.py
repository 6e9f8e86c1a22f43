"""What every response has: envelope, keys, CORS, ids."""

import httpx2 as httpx
import openai
import pytest

PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os,x-evil",
}
ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
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


# --- keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dTpw", "sk-x"])
def test_no_key(worker, authorization):
    headers = {} if authorization is None else {"authorization": authorization}
    response = httpx.get(f"{worker.url}/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] is None


def test_wrong_key_is_masked(worker):
    with pytest.raises(openai.AuthenticationError) as caught:
        worker.client(api_key="sk-wrong-secret-middle-tail").models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sk-********tail" in caught.value.message
    assert "secret" not in caught.value.message


def test_short_wrong_key_is_hidden(worker):
    headers = {"authorization": "Bearer hunter2"}
    response = httpx.get(f"{worker.url}/v1/models", headers=headers)
    assert response.status_code == 401 and "hunter2" not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("key", ["sk-test-0123456789abcdef", "sk-another-key-0123456789"])
def test_each_key_in_any_case_of_bearer(worker, scheme, key):
    headers = {"authorization": f"{scheme} {key}"}
    assert httpx.get(f"{worker.url}/v1/models", headers=headers).status_code == 200


def test_key_of_strange_bytes(worker):
    headers = {"authorization": b"Bearer \xff\xfe\x80"}
    assert httpx.get(f"{worker.url}/v1/models", headers=headers).status_code == 401


def test_key_comes_before_the_body(worker):
    response = httpx.post(f"{worker.url}/v1/chat/completions", content=b"{")
    assert response.status_code == 401


def test_without_authentication_no_key_is_asked(plain_worker):
    assert httpx.get(f"{plain_worker.url}/v1/models").status_code == 200
    assert plain_worker.client(api_key="anything").models.list().data


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


# --- CORS ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health"])
def test_preflight(worker, path):
    headers = PREFLIGHT | {"origin": worker.origin}
    response = httpx.options(worker.url + path, headers=headers)
    assert response.status_code == 204 and response.content == b""
    assert response.headers["access-control-allow-origin"] == worker.origin
    assert response.headers["vary"] == "Origin"
    assert "POST" in response.headers["access-control-allow-methods"]
    allowed = response.headers["access-control-allow-headers"]
    assert allowed == "authorization, content-type, x-stainless-os"
    assert "access-control-allow-credentials" not in response.headers


def test_preflight_of_another_origin_permits_nothing(worker):
    headers = PREFLIGHT | {"origin": "http://localhost:3001"}
    response = httpx.options(f"{worker.url}/v1/models", headers=headers)
    assert response.status_code == 204 and response.headers["vary"] == "Origin"
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/chat/completions", 200), ("/v1/completions", 400), ("/no", 404)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_cors_on_answers_errors_and_streams(worker, path, status, stream):
    headers = worker.headers | {"origin": worker.origin}
    response = httpx.post(worker.url + path, json=ASK | {"stream": stream}, headers=headers)
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == worker.origin
    assert "x-request-id" in response.headers["access-control-expose-headers"]


def test_cors_on_a_missing_key(worker):
    response = httpx.get(f"{worker.url}/v1/models", headers={"origin": worker.origin})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == worker.origin


def test_cors_off_says_nothing(plain_worker):
    headers = PREFLIGHT | {"origin": plain_worker.origin}
    response = httpx.options(f"{plain_worker.url}/v1/models", headers=headers)
    assert response.status_code == 405
    names = set(httpx.get(f"{plain_worker.url}/health", headers=headers).headers)
    assert not {n for n in names if n.startswith("access-control")} and "vary" not in names
