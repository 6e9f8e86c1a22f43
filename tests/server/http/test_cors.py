"""Cross-origin requests, as browsers send them."""

import httpx2 as httpx
import pytest

from mlxnode.messages.control import Limit, Reserved
from mlxnode.server.http.cors import Cors

ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}
# What Chromium asks for the openai package of npm, recorded.
SDK_HEADERS = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version"
)
CHROMIUM = {
    "accept": "*/*",
    "access-control-request-method": "POST",
    "access-control-request-headers": SDK_HEADERS,
    "sec-fetch-mode": "cors",
    "sec-fetch-site": "cross-site",
    "sec-fetch-dest": "empty",
}


def granted(response: httpx.Response) -> dict[str, str]:
    """The CORS headers alone."""
    return {
        name.removeprefix("access-control-"): value
        for name, value in response.headers.items()
        if name.startswith("access-control-")
    }


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


def test_preflight_of_the_sdk_in_a_browser_costs_nothing(worker):
    url = f"{worker.url}/v1/chat/completions"
    response = httpx.options(url, headers=CHROMIUM | {"origin": worker.origin})
    assert response.status_code == 204
    allowed = granted(response)["allow-headers"].split(", ")
    assert allowed == SDK_HEADERS.split(",")  # by name: "*" would not include authorization
    assert worker.reserved.empty() and worker.engine.received.empty()


def test_preflight_in_firefox_s_order(worker):
    asked = "content-type,authorization,x-stainless-timeout,openai-organization,openai-beta"
    headers = CHROMIUM | {"origin": worker.origin, "access-control-request-headers": asked}
    response = httpx.options(f"{worker.url}/v1/embeddings", headers=headers)
    assert set(asked.split(",")) == set(granted(response)["allow-headers"].split(", "))


@pytest.mark.parametrize(
    "asked",
    [
        "x-stainless-\u00e9",
        "x-stainless-a b",
        "*",
        ", ,",
        "",
        "x:y",
        "x=1",
        "<script>",
        "a\tb",
        "x" * 65,
        '"x"',
        "a;b",
    ],
)
def test_preflight_grants_nothing_that_is_not_a_name(worker, asked):
    headers = {
        b"origin": worker.origin.encode(),
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": asked.encode(),
    }
    response = httpx.options(f"{worker.url}/v1/models", headers=headers)
    assert response.status_code == 204
    assert granted(response)["allow-headers"] == "authorization, content-type"


@pytest.mark.parametrize(
    "asked",
    [
        "http-referer,x-title",
        "cache-control,x-requested-with",
        "anthropic-dangerous-direct-browser-access,anthropic-version,anthropic-beta,x-api-key",
        "X-Anything-At-All,_x~!#$%&'*+.^`|-",
    ],
)
def test_preflight_grants_the_headers_that_a_page_asks_for(worker, asked):
    headers = PREFLIGHT | {"origin": worker.origin, "access-control-request-headers": asked}
    response = httpx.options(f"{worker.url}/v1/messages", headers=headers)
    expected = ["authorization", "content-type", *asked.lower().split(",")]
    assert granted(response)["allow-headers"].split(", ") == expected


def test_preflight_grants_each_name_once_and_a_bounded_number():
    cors = Cors(["http://a"])

    def names(asked: str) -> list[str]:
        sent = {"origin": "http://a", "access-control-request-headers": asked}
        return cors.preflight_headers(sent)["access-control-allow-headers"].split(", ")

    assert names("x-a, X-A,Authorization,,x-a") == ["authorization", "content-type", "x-a"]
    many = names(",".join(f"x-{number}" for number in range(5000)))
    assert len(many) < 100 and many[-1] != "x-4999"
    assert names("x-a\r\nset-cookie: a=b") == ["authorization", "content-type"]


@pytest.mark.parametrize("is_allowed", [True, False])
def test_preflight_to_a_private_network(worker, is_allowed):
    origin = worker.origin if is_allowed else "http://evil.example"
    private = {"access-control-request-private-network": "true", "origin": origin}
    response = httpx.options(f"{worker.url}/v1/models", headers=PREFLIGHT | private)
    assert granted(response).get("allow-private-network") == ("true" if is_allowed else None)
    plain = httpx.options(f"{worker.url}/v1/models", headers=PREFLIGHT | {"origin": origin})
    assert "allow-private-network" not in granted(plain)


@pytest.mark.parametrize("path", ["//v1/models/", "/chat/completions", "/v1/v1/models/a"])
def test_preflight_of_another_spelling(worker, path):
    headers = PREFLIGHT | {"origin": worker.origin, "access-control-request-method": "DELETE"}
    response = httpx.options(worker.url + path, headers=headers)
    assert response.status_code == 204
    assert "DELETE" in granted(response)["allow-methods"]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost",
        "https://localhost:3000",
        "http://localhost:3000.evil.example",
        "http://LOCALHOST:3000",
        "http://localhost:3000/",
    ],
)
def test_origins_are_exact(worker, origin):
    for response in (
        httpx.options(f"{worker.url}/v1/models", headers=PREFLIGHT | {"origin": origin}),
        httpx.get(f"{worker.url}/v1/models", headers=worker.headers | {"origin": origin}),
    ):
        assert granted(response) == {} and response.headers["vary"] == "Origin"


def test_vary_also_without_an_origin(worker):
    assert httpx.get(f"{worker.url}/health").headers["vary"] == "Origin"


def test_pages_can_read_the_limits_of_a_refusal(worker):
    worker.refuse = Reserved(0, "requests", 2.5, Limit(60, 0, 60.0), None)
    url = f"{worker.url}/v1/chat/completions"
    response = httpx.post(url, json=ASK, headers=worker.headers | {"origin": worker.origin})
    assert response.status_code == 429
    exposed = set(granted(response)["expose-headers"].split(", "))
    sent = {name for name in response.headers if name.startswith(("x-ratelimit", "retry"))}
    assert sent == {
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    }
    assert sent | {"x-request-id", "openai-processing-ms", "x-should-retry"} <= exposed
    assert {"request-id", "x-mlxnode-ignored", "x-mlxnode-max-tokens"} <= exposed
    assert {"anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-reset"} <= exposed


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/completions", b"x" * 1_000_001, 413),
        ("DELETE", "/v1/models", b"", 405),
        ("POST", "/v1/completions", b"{", 400),
    ],
)
def test_cors_on_refusals_before_the_handler(worker, method, path, content, status):
    headers = worker.headers | {"origin": worker.origin, "content-type": "application/json"}
    response = httpx.request(method, worker.url + path, content=content, headers=headers)
    assert response.status_code == status
    assert granted(response)["allow-origin"] == worker.origin


def test_every_origin_never_comes_with_credentials():
    cors = Cors(["*"])
    answers = [cors.headers_for("http://a"), cors.headers_for(None)]
    asked = {"origin": "http://a", "access-control-request-headers": "authorization"}
    preflight = cors.preflight_headers(asked)
    assert [answer["access-control-allow-origin"] for answer in answers] == ["*", "*"]
    assert preflight["access-control-allow-headers"].startswith("authorization")
    assert "access-control-allow-credentials" not in answers[0] | preflight
