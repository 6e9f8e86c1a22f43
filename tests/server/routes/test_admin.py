"""The routes of the administrator: for admin keys only, and for nobody else."""

import httpx2 as httpx
import pytest

from mlxnode.config.keys import ApiKey
from mlxnode.messages.control import Access, Ping, Pong

PATHS = ["/admin/status", "/admin/usage", "/admin/keys", "/admin/keys/", "/v1/admin/keys"]


def get(worker, path: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.get(f"{worker.url}{path}", headers=headers)


def test_admin_lists_the_keys_without_the_keys(worker):
    answer = get(worker, "/admin/keys", worker.admin_key)
    assert answer.status_code == 200 and "sk-" not in answer.text
    keys = {key["id"]: key for key in answer.json()["data"]}
    assert keys["narrow"]["models"] == ["org/tiny-text"] and not keys["narrow"]["is_admin"]
    assert keys["admin"]["is_admin"] and len(keys) == 4


def test_admin_status_needs_the_supervisor(worker):
    answer = get(worker, "/admin/status", worker.admin_key)  # of a worker without a node
    assert answer.status_code == 503
    assert "figures of the node" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "query, param", [("from=yesterday", "from"), ("to=2026-13-01", "to"), ("by=week", "by")]
)
def test_admin_usage_names_what_is_wrong_in_its_query(worker, query, param):
    answer = get(worker, f"/admin/usage?{query}", worker.admin_key)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", PATHS)
def test_admin_routes_refuse_users_and_strangers(worker, path):
    assert get(worker, path).status_code == 401
    assert get(worker, path, "sk-wrong-0123456789abcdef").status_code == 401
    for key in (worker.key, worker.narrow_key):
        answer = get(worker, path, key)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "wrong_kind_of_key"


@pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/v1/models/tiny-chat"])
def test_admin_key_is_for_no_other_route(worker, path):
    answer = get(worker, path, worker.admin_key)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "wrong_kind_of_key"
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": worker.admin_key}
    answer = httpx.post(f"{worker.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 403 and worker.engine.received.empty()


def test_admin_key_beside_a_user_s_key(worker):
    headers = {"authorization": f"Bearer {worker.key}", "x-api-key": worker.admin_key}
    for path in ("/v1/models", "/admin/keys"):
        assert httpx.get(f"{worker.url}{path}", headers=headers).status_code == 200


def test_admin_routes_need_a_key_where_no_other_does(plain_worker):
    assert get(plain_worker, "/v1/models").status_code == 200
    assert get(plain_worker, "/admin/keys").status_code == 401
    assert get(plain_worker, "/admin/keys", plain_worker.key).status_code == 403
    assert get(plain_worker, "/admin/keys", plain_worker.admin_key).status_code == 200


def test_admin_routes_are_unknown_without_an_admin_key(own_worker):
    own_worker.send(Access(keys=[ApiKey.unnamed(own_worker.key)]))
    own_worker.send(Ping(1))
    own_worker.wait_for(Pong)
    for key in (own_worker.key, own_worker.admin_key, None):
        answer = get(own_worker, "/admin/keys", key)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_url"
