"""``/v1/models``: what it says of each model, and models that change or fail."""

import dataclasses
import json

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT
from support.model_calls import call, states, told, wait_for_state

from mlxnode.messages.control import Access, Fits, Models
from mlxnode.messages.data import Embed, Failed, Generate
from mlxnode.models.fit import Weighed

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


# --- what a model is said to be -----------------------------------------------------------


def test_model_says_all_that_is_known(keyed, served_models, tmp_path):
    adapter = tmp_path / "french"
    lazy = dataclasses.replace(
        served_models[1], preload=False, quantize=4, size_bytes=77, adapter=adapter
    )
    models = Models(
        models=[served_models[0], lazy],
        types={"tiny-chat": "chat", "org/tiny-text": "completion", "lost": "chat"},
        aliases={"tiny-text": "org/tiny-text", "best": "org/tiny-text"},
    )
    keyed.send(models)
    keyed.send(Fits({"org/tiny-text": Weighed("3 of 8 rows", "fits with 3 rows", True)}))
    told(keyed)
    keyed.engine.tell(["org/tiny-text"], **{"org/tiny-text": "loading"})
    wait_for_state(keyed, "org/tiny-text", "loading")
    for name in ("org/tiny-text", "tiny-text", "best", "org%2Ftiny-text"):
        assert call(keyed, name, "GET", keyed.key).json() == {
            "id": "org/tiny-text",
            "created": 1_700_000_000,
            "type": "completion",
            "status": "loading",
            "aliases": ["tiny-text", "best"],
            "pinned": True,
            "context_length": 1024,
            "max_model_len": 1024,
            "size_bytes": 77,
            "quantization": "4-bit",
            "adapter": "french",
            "fit": {"short": "3 of 8 rows", "text": "fits with 3 rows", "fits": True},
            "owned_by": "mlxnode",
            "object": "model",
        }
    assert call(keyed, "lost", "GET", keyed.key).json()["status"] == "unloaded"
    info = httpx.get(
        f"{keyed.url}/v1/models/best", headers=keyed.headers | {"anthropic-version": "x"}
    )
    assert info.json()["id"] == "org/tiny-text" and info.json()["type"] == "model"


def test_models_loads_nothing(keyed):
    assert states(keyed) and call(keyed, "tiny-chat", "GET", keyed.key).status_code == 200
    assert keyed.engine.received.empty()


@pytest.mark.parametrize("stream", [False, True])
def test_alias_is_understood_and_the_id_is_answered(keyed, served_models, stream):
    types = {model.id: model.type for model in served_models}
    aliases = {"chat": "tiny-chat", "vectors": "tiny-embedding"}
    keyed.send(Models(models=served_models, types=types, aliases=aliases))
    told(keyed)
    client = keyed.client()
    answer = client.chat.completions.create(**CHAT | {"model": "chat"}, stream=stream)
    chunks = list(answer) if stream else [answer]
    assert {chunk.model for chunk in chunks} == {"tiny-chat"}
    assert keyed.engine.next(Generate).model == "tiny-chat"
    assert client.embeddings.create(model="vectors", input="a").model == "tiny-embedding"
    assert keyed.usages.get(timeout=WAIT).model == "tiny-chat"


def test_alias_of_a_model_that_the_key_may_not_use_is_unknown(keyed, served_models):
    types = {model.id: model.type for model in served_models}
    keyed.send(Models(models=served_models, types=types, aliases={"chat": "tiny-chat"}))
    told(keyed)
    answer = call(keyed, "chat", "GET", keyed.narrow_key)
    assert answer.status_code == 404
    assert "tiny-chat" not in answer.json()["error"]["message"]


# --- models and origins that change ---------------------------------------------------------


def test_models_change_without_disturbing_a_request(keyed, served_models):
    keyed.engine.on_generate = lambda message: keyed.engine.update(message.uid, "abc")
    stream = keyed.client().chat.completions.create(**CHAT, stream=True)
    first = next(iter(stream))
    uid = keyed.engine.next(Generate).uid
    new = dataclasses.replace(served_models[0], id="new")
    keyed.send(Models(models=[new, served_models[1]], types={}))
    told(keyed)
    assert list(states(keyed)) == ["new", "org/tiny-text"]
    gone = httpx.post(f"{keyed.url}/v1/chat/completions", json=CHAT, headers=keyed.headers)
    assert gone.status_code == 404 and "new" in gone.json()["error"]["message"]
    keyed.engine.update(uid, "def", "stop")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in (first, *stream))
    assert text == "abcdef"
    keyed.engine.reset()
    assert keyed.client().chat.completions.create(**CHAT | {"model": "new"}).choices
    document = httpx.get(f"{keyed.url}/openapi.json", headers=keyed.headers).json()
    body = document["components"]["schemas"]["RequestChatBody"]
    assert body["properties"]["model"]["enum"] == ["new"]


def test_origins_change(keyed):
    def allowed(origin: str) -> str | None:
        answer = httpx.get(f"{keyed.url}/health", headers={"origin": origin})
        return answer.headers.get("access-control-allow-origin")

    assert allowed("http://a") is None
    for origins in (["http://a"], ["http://b"], []):
        keyed.send(Access(keys=keyed.keys, cors_origins=origins))
        told(keyed)
        for origin in ("http://a", "http://b"):
            assert allowed(origin) == (origin if origin in origins else None)


# --- a model that cannot be loaded ------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_request_for_a_model_that_cannot_be_loaded(keyed, stream):
    def refuse(message: Generate) -> None:
        keyed.engine.send(Failed(message.uid, "model", "no memory"))

    keyed.engine.on_generate = refuse
    answer = httpx.post(
        f"{keyed.url}/v1/chat/completions",
        json=CHAT | {"stream": stream},
        headers=keyed.headers,
    )
    assert answer.status_code == 503 and answer.headers["x-should-retry"] == "false"
    error = json.loads(answer.text)["error"]
    assert (error["code"], error["param"]) == ("model_failed", "model")
    assert "The model 'tiny-chat' cannot be served: no memory" in error["message"]


def test_embedding_of_a_model_that_cannot_be_loaded(keyed):
    keyed.engine.embed = lambda message: keyed.engine.send(
        Failed(message.uid, "model", "no memory")
    )
    body = {"model": "tiny-embedding", "input": "a"}
    answer = httpx.post(f"{keyed.url}/v1/embeddings", json=body, headers=keyed.headers)
    assert answer.status_code == 503
    assert "'tiny-embedding' cannot be served: no memory" in answer.json()["error"]["message"]
    assert keyed.engine.next(Embed)
