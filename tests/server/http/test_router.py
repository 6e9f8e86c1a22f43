"""URLs as clients build them from a base URL that is typed a little differently."""

import httpx2 as httpx
import openai
import pytest
from support.contract import CHAT, COMPLETION, EMBEDDING, error_of

from mlxnode.server.http.router import canonical

BASES = ["/v1", "/v1/", "", "/", "//", "/v1//", "//v1", "/v1/v1", "/api/v1", "/openai/v1/"]
ENDPOINTS = [("chat/completions", CHAT), ("completions", COMPLETION), ("embeddings", EMBEDDING)]


@pytest.fixture(scope="module")
def http():
    """One client for many requests."""
    with httpx.Client() as client:
        yield client


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("end", ["", "//?api-version=1"])
def test_every_base_url_reaches_the_endpoints(worker, http, base, end):
    for name, body in ENDPOINTS:
        url = f"{worker.url}{base}/{name}{end}"
        assert http.post(url, json=body, headers=worker.headers).status_code == 200, url
        assert http.post(url, json=body).status_code == 401, url
        wrong = http.get(url, headers=worker.headers)
        assert wrong.status_code == 405 and wrong.headers["allow"] == "POST", url
    for method in ("GET", "HEAD"):
        url = f"{worker.url}{base}/models{end}"
        assert http.request(method, url, headers=worker.headers).status_code == 200, url


@pytest.mark.parametrize("base", BASES)
def test_the_sdk_with_any_base_url(worker, base):
    with openai.OpenAI(base_url=worker.url + base, api_key=worker.key) as client:
        assert client.chat.completions.create(**CHAT).choices
        assert len(client.models.list().data) == 3
        assert client.models.retrieve("org/tiny-text").id == "org/tiny-text"


@pytest.mark.parametrize("base", BASES)
def test_ids_keep_their_slashes(worker, http, base):
    for id in ("org/tiny-text", "org%2Ftiny-text", "org/tiny-text/"):
        response = http.get(f"{worker.url}{base}/models/{id}", headers=worker.headers)
        assert response.json()["id"] == "org/tiny-text"


def test_ids_are_not_taken_for_a_base_url(worker, http):
    for id in ("v1/tiny-chat", "v1", "api/v1/tiny-chat"):
        response = http.get(f"{worker.url}/v1/models/{id}", headers=worker.headers)
        assert error_of(response)["code"] == "model_not_found"
        assert f"'{id}'" in error_of(response)["message"]


@pytest.mark.parametrize(
    "path", ["/health", "/health/", "//health", "/v1/health", "/v1//health"]
)
def test_routes_outside_the_base_url(worker, http, path):
    assert http.get(worker.url + path).json()["status"] == "ok"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/chat/completions",
        "/v1x/models",
        "/xv1/models",
        "/V1/models",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/chat/completions/v1",
        "/api/models",
        "/openai/models",
        "/v1/api/v1/models",
        "/v1;a=b/models",
        "/v1/%6dodels",
        "/v1" * 20 + "/nothing",
        "/" * 5000 + "nothing",
        "/nothing" + "/" * 5000,
        "/v1" * 2000 + "/nothing",
    ],
)
def test_other_urls_are_unknown(worker, http, path):
    response = http.get(worker.url + path, headers=worker.headers)
    assert response.status_code == 404
    assert error_of(response)["code"] == "unknown_url"


@pytest.mark.parametrize(
    "path", ["/api/tags", "/api/version", "/api/chat", "//api/show", "/api/ps"]
)
def test_ollama_s_own_api_names_the_base_url(worker, http, path):
    message = error_of(http.get(worker.url + path))["message"]
    assert "OpenAI-compatible" in message and message.endswith("/v1")
    assert "Ollama" not in http.get(f"{worker.url}/v1/tags").text


def test_each_path_is_documented_once(worker, http):
    paths = http.get(f"{worker.url}/openapi.json", headers=worker.headers).json()["paths"]
    assert len({canonical(path) for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/v1"),
        ("", "/v1"),
        ("/v1/", "/v1"),
        ("//v1//v1/messages/", "/v1/messages"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/api/v1", "/v1"),
        ("/api", "/v1/api"),
        ("/api/v1beta/x", "/v1/api/v1beta/x"),
        ("/models/v1/api", "/v1/models/v1/api"),
        ("/models/a%2F%2Fb", "/v1/models/a%2F%2Fb"),
    ],
)
def test_canonical(path, expected):
    assert canonical(path) == expected
    assert canonical(expected) == expected
