"""The other routes and headers of Anthropic's API: models, pages, keys and the root."""

import json

import httpx2 as httpx
import pytest
from support.messages_requests import ASK, MESSAGES, VERSION


def models(worker, query: str = "", **headers) -> dict:
    url = f"{worker.url}/v1/models{query}"
    return httpx.get(url, headers=worker.headers | headers).json()


def test_models_have_the_shape_of_the_asker(worker):
    ids = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert models(worker)["object"] == "list"
    page = models(worker, **VERSION)
    assert [model["id"] for model in page["data"]] == ids
    assert {model["type"] for model in page["data"]} == {"model"}
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, ids[0], ids[2])
    one = models(worker, "/org/tiny-text", **VERSION)
    assert (one["id"], one["display_name"]) == (ids[1], ids[1])
    assert one["created_at"] == "2023-11-14T22:13:20Z"
    assert models(worker, "/org/tiny-text")["object"] == "model"


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("?limit=2", [0, 1], True),
        ("?limit=3", [0, 1, 2], False),
        ("?after_id=tiny-chat&limit=1", [1], True),
        ("?after_id=tiny-chat", [1, 2], False),
        ("?after_id=tiny-embedding", [], False),
        ("?before_id=tiny-embedding&limit=1", [1], True),
        ("?before_id=org/tiny-text&limit=5", [0], False),
        ("?after_id=nobody", [], False),
        ("?after_id=&before_id=", [0, 1, 2], False),
        ("?before_id=nobody", [], False),
    ],
)
def test_pages_of_models(worker, query, expected, has_more):
    ids = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    page = models(worker, query, **VERSION)
    assert [model["id"] for model in page["data"]] == [ids[place] for place in expected]
    assert page["has_more"] is has_more


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "\u0663", "1" * 5000])
def test_a_wrong_limit_is_refused(worker, limit):
    url = f"{worker.url}/v1/models"
    response = httpx.get(url, params={"limit": limit}, headers=worker.headers | VERSION)
    assert response.status_code == 400
    assert "limit" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_root_answers_without_a_key(worker, method):
    response = httpx.request(method, f"{worker.url}/")
    assert response.status_code == 200 and response.headers["request-id"]
    assert (response.text == "") == (method == "HEAD")


def test_a_key_may_come_as_x_api_key(worker):
    url, key = worker.url + MESSAGES, worker.key
    headers = {"x-api-key": key, "anthropic-beta": "a-2025-01-01,b"} | VERSION
    assert httpx.post(url, json=ASK, headers=headers).status_code == 200


def test_a_body_without_a_content_type_is_read(worker):
    body = json.dumps(ASK).encode()
    response = httpx.post(worker.url + MESSAGES, content=body, headers=worker.headers)
    assert response.status_code == 200
