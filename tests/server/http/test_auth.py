"""API keys: none, wrong, in other headers, and with models of their own."""

import httpx2 as httpx
import openai
import pytest

from mlxnode.config.keys import ApiKey
from mlxnode.server.http import auth
from mlxnode.server.http.auth import Keyring

ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dTpw"])
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
@pytest.mark.parametrize(
    "key",
    ["sk-test-0123456789abcdef", "sk-another-key-0123456789", "sk-narrow-0123456789abcd"],
)
def test_each_key_in_any_case_of_bearer(worker, scheme, key):
    headers = {"authorization": f"{scheme} {key}"}
    assert httpx.get(f"{worker.url}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["x-api-key", "X-API-Key", "api-key", "authorization"])
def test_key_without_a_scheme(worker, name):
    url = f"{worker.url}/v1/models"
    assert httpx.get(url, headers={name: worker.key}).status_code == 200
    response = httpx.get(url, headers={name: "sk-wrong-secret-middle-tail"})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert "sk-********tail" in response.text and "secret" not in response.text
    narrow = httpx.get(url, headers={name: worker.narrow_key}).json()["data"]
    assert [model["id"] for model in narrow] == ["org/tiny-text"]


@pytest.mark.parametrize(
    ("sent", "models"),
    [
        ({"authorization": "Bearer {key}", "x-api-key": "{narrow}"}, 3),
        ({"authorization": "Bearer {narrow}", "x-api-key": "{key}"}, 1),
        ({"authorization": "Bearer EMPTY", "x-api-key": "{narrow}"}, 1),
        ({"authorization": "Bearer {key}", "x-api-key": "wrong"}, 3),
        ({"authorization": "Basic dTpw", "api-key": "{key}"}, 3),
        ({"x-api-key": "", "api-key": "{narrow}"}, 1),
    ],
)
def test_the_first_known_key_of_several_counts(worker, sent, models):
    keys = {"key": worker.key, "narrow": worker.narrow_key}
    headers = {name: value.format(**keys) for name, value in sent.items()}
    response = httpx.get(f"{worker.url}/v1/models", headers=headers)
    assert len(response.json()["data"]) == models


def test_no_key_of_several_is_known(worker):
    headers = {"authorization": "Bearer one", "x-api-key": "two", "api-key": "three"}
    response = httpx.get(f"{worker.url}/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["message"] == "Incorrect API key provided: ***."


def test_key_of_strange_bytes(worker):
    headers = {"authorization": b"Bearer \xff\xfe\x80"}
    assert httpx.get(f"{worker.url}/v1/models", headers=headers).status_code == 401


def test_key_comes_before_the_body(worker):
    response = httpx.post(f"{worker.url}/v1/chat/completions", content=b"{")
    assert response.status_code == 401


def test_without_authentication_no_key_is_asked(plain_worker):
    assert httpx.get(f"{plain_worker.url}/v1/models").status_code == 200
    assert plain_worker.client(api_key="anything").models.list().data


def test_missing_key_comes_before_an_unknown_model_and_a_wrong_type(worker):
    for body in ({}, {"model": "nobody"}, {"model": 5}):
        for path in ("chat/completions", "completions", "embeddings"):
            response = httpx.post(f"{worker.url}/v1/{path}", json=body)
            assert response.status_code == 401, path


def test_every_key_is_compared_whole(monkeypatch):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    keys = [ApiKey.unnamed(key) for key in ("sk-a", "sk-b", "sk-c")]
    keyring = Keyring(keys, required=True)
    assert keyring.authenticate(["sk-a"]) is keys[0]
    assert compared == [(keys[0].digest, key.digest) for key in keys]
    compared.clear()
    assert keyring.authenticate(["sk-b", "sk-x"]) is keys[1]
    assert len(compared) == 6


def test_keys_keep_their_names_where_none_is_required():
    key = ApiKey.unnamed("sk-a")
    keyring = Keyring([key], required=False)
    assert keyring.authenticate(["sk-b", "sk-a"]) is key
    for other in ([], ["sk-b"], ["Basic sk-a"]):
        assert keyring.authenticate(other) is auth.ANONYMOUS


# --- a key with models of its own ---------------------------------------------------


def test_key_lists_the_models_that_it_may_use(worker):
    client = worker.client(api_key=worker.narrow_key)
    assert [model.id for model in client.models.list()] == ["org/tiny-text"]
    assert client.models.retrieve("org/tiny-text").id == "org/tiny-text"
    assert client.completions.create(model="org/tiny-text", prompt="x").choices


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.chat.completions.create(**ASK),
        lambda client: client.chat.completions.create(**ASK, stream=True),
        lambda client: client.completions.create(model="tiny-chat", prompt="x"),
        lambda client: client.embeddings.create(model="tiny-embedding", input="x"),
        lambda client: client.models.retrieve("tiny-chat"),
    ],
)
def test_key_does_not_know_other_models(worker, call):
    with pytest.raises(openai.NotFoundError) as caught:
        call(worker.client(api_key=worker.narrow_key))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.message.endswith("Served here: org/tiny-text")
    assert worker.engine.received.empty() and worker.reserved.empty()


def test_log_has_the_name_of_a_key_and_not_the_key(start_worker, served_models, capfd):
    with start_worker(served_models, {}, {"log_level": "debug"}) as worker:
        for key in (worker.narrow_key, "sk-wrong-0123456789abcdef"):
            headers = {"authorization": f"Bearer {key}"}
            httpx.get(f"{worker.url}/v1/models", headers=headers)
    log = capfd.readouterr().err
    assert " narrow GET /v1/models 200" in log and " - GET /v1/models 401" in log
    assert "0123456789" not in log


def test_key_with_a_name_is_counted_under_it(worker):
    client = worker.client(api_key=worker.narrow_key)
    client.completions.create(model="org/tiny-text", prompt="x")
    reserved = worker.reserved.get(timeout=10)
    assert (reserved.key, reserved.model) == ("narrow", "org/tiny-text")
