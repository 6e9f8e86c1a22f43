"""``/v1/models``: what it says of each model, and loading and unloading by administrators."""

import contextlib
import dataclasses
import http.client
import json
import threading

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT

from mlxnode.config.keys import ApiKey
from mlxnode.messages.control import Access, Fits, Models, Ping, Pong
from mlxnode.messages.data import Done, Embed, Failed, Generate, Load, Unload
from mlxnode.models.fit import Weighed

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def shared_worker(start_worker, served_models):
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def keyed(shared_worker, served_models):
    """A worker with keys, whose keys, models and states a test may change."""
    types = {model.id: model.type for model in served_models}
    shared_worker.send(Access(keys=shared_worker.keys))
    shared_worker.send(Models(models=served_models, types=types))
    shared_worker.send(Fits({}))
    shared_worker.settle()
    shared_worker.connect_engine()
    wait_for_state(shared_worker, "tiny-chat", "loaded")
    return shared_worker


def call(worker, path: str, method: str = "POST", key: str | None = None, **options):
    key = worker.admin_key if key is None else key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{worker.url}/v1/models/{path}"
    return httpx.request(method, url, headers=headers, timeout=WAIT, **options)


def told(worker) -> None:
    """All that was sent has been read."""
    worker.send(Ping(1))
    worker.wait_for(Pong)


def states(worker) -> dict[str, str]:
    answer = httpx.get(f"{worker.url}/v1/models", headers=worker.headers)
    return {model["id"]: model["status"] for model in answer.json()["data"]}


def wait_for_state(worker, model: str, state: str) -> None:
    """The pipe of the engine has no answer to a ping."""
    paused = threading.Event()
    while states(worker)[model] != state:
        paused.wait(0.01)


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


# --- load and unload ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["org/tiny-text", "org%2Ftiny-text"])
def test_administrator_unloads_and_loads(keyed, path):
    answer = call(keyed, f"{path}/unload")
    assert answer.status_code == 200 and answer.json()["status"] == "unloaded"
    assert answer.json()["id"] == "org/tiny-text"
    assert keyed.engine.next(Unload).model == "org/tiny-text"
    assert states(keyed)["org/tiny-text"] == "unloaded"
    answer = call(keyed, f"{path}/load", json={"pin": True})
    assert answer.status_code == 200
    assert answer.json()["status"] == "loaded" and answer.json()["pinned"]
    message = keyed.engine.next(Load)
    assert message.model == "org/tiny-text" and message.pin is True


@pytest.mark.parametrize(
    "body, pin", [(None, None), ({}, None), ({"pin": None}, None), ({"pin": False}, False)]
)
def test_load_may_say_whether_to_pin(keyed, body, pin):
    options = {} if body is None else {"json": body}
    assert call(keyed, "tiny-chat/load", **options).status_code == 200
    assert keyed.engine.next(Load).pin is pin


def test_load_by_an_alias(keyed, served_models):
    types = {model.id: model.type for model in served_models}
    keyed.send(Models(models=served_models, types=types, aliases={"chat": "tiny-chat"}))
    told(keyed)
    assert call(keyed, "chat/load").json()["id"] == "tiny-chat"
    assert keyed.engine.next(Load).model == "tiny-chat"


@pytest.mark.parametrize("order", ["load", "unload"])
def test_order_for_an_unknown_model(keyed, order):
    answer = call(keyed, f"nobody/{order}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert keyed.engine.received.empty()


@pytest.mark.parametrize("body, param", [({"pin": "maybe"}, "pin"), ([1], None)])
def test_load_with_a_body_that_is_wrong(keyed, body, param):
    answer = call(keyed, "tiny-chat/load", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert keyed.engine.received.empty()


def test_load_that_fails_says_why(keyed):
    def refuse(message: Load) -> None:
        keyed.engine.send(Failed(message.uid, "model", "does not fit: 9 GB"))

    keyed.engine.on_order = refuse
    answer = call(keyed, "tiny-chat/load")
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    error = answer.json()["error"]
    assert error["code"] == "model_failed" and "does not fit: 9 GB" in error["message"]


def test_load_tries_again_to_open_what_could_not_be_opened(
    start_worker, served_models, tmp_path
):
    folder = tmp_path / "model"
    lazy = dataclasses.replace(served_models[0], id="lazy", folder=folder, preload=False)
    with start_worker([*served_models, lazy], {}) as worker:
        worker.connect_engine()
        assert not worker.started.failed and states(worker)["lazy"] == "loaded"
        for _ in range(2):
            answer = call(worker, "lazy/load")
            assert answer.status_code == 503 and str(folder) in answer.text
        assert worker.engine.received.empty()  # its weights would be loaded for nothing
        assert states(worker)["lazy"] == "failed"
        folder.symlink_to(served_models[0].folder)
        assert call(worker, "lazy/load").json()["status"] == "loaded"
        assert worker.client().chat.completions.create(**CHAT | {"model": "lazy"}).choices


def test_client_that_leaves_does_not_cancel_a_load(keyed):
    keyed.engine.on_order = lambda message: None
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=WAIT)
    with contextlib.closing(connection):
        head = {"authorization": f"Bearer {keyed.admin_key}"}
        connection.request("POST", "/v1/models/tiny-chat/load", headers=head)
        message = keyed.engine.next(Load)
    keyed.engine.on_order = keyed.engine.obey
    assert call(keyed, "tiny-chat/load").status_code == 200  # also the worker goes on
    assert isinstance(keyed.engine.received.get(timeout=WAIT), Load)
    assert keyed.engine.received.empty()  # no Abort
    keyed.engine.send(Done(message.uid))
    assert states(keyed)["tiny-chat"] == "loaded"


def test_order_ends_when_the_engine_goes(keyed):
    keyed.engine.on_order = lambda message: keyed.engine.disconnect()
    answer = call(keyed, "tiny-chat/load")
    assert answer.status_code == 503 and "engine stopped" in answer.json()["error"]["message"]
    wait_for_state(keyed, "tiny-chat", "loading")  # the next engine loads it by itself
    assert call(keyed, "tiny-chat/unload").status_code == 503
    keyed.connect_engine()
    wait_for_state(keyed, "tiny-chat", "loaded")


# --- who may ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["load", "unload"])
def test_orders_are_for_administrators(keyed, order):
    path = f"tiny-chat/{order}"
    assert call(keyed, path, key="").status_code == 401
    assert call(keyed, path, key="sk-wrong-0123456789abcdef").status_code == 401
    for key in (keyed.key, keyed.narrow_key):
        answer = call(keyed, path, key=key)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "wrong_kind_of_key"
    assert call(keyed, path, "GET").status_code == 405
    keyed.send(Access(keys=[ApiKey.unnamed(keyed.key)]))  # and there is no admin key
    told(keyed)
    answer = call(keyed, path, key=keyed.key)
    assert answer.status_code == 403 and "admin_key" in answer.json()["error"]["message"]
    assert call(keyed, path, key="").status_code == 401
    assert keyed.engine.received.empty()


def test_orders_need_the_admin_key_where_there_is_one(plain_worker):
    """Also where no other route needs a key."""
    assert call(plain_worker, "tiny-chat/load", key="").status_code == 401
    assert call(plain_worker, "tiny-chat/load", key=plain_worker.key).status_code == 403
    assert call(plain_worker, "tiny-chat/load").status_code == 200


def test_orders_need_no_key_where_nobody_has_one(own_worker):
    """But a browser sends a POST without a body from any page, without asking first."""
    own_worker.send(Access(keys=[]))
    told(own_worker)
    assert call(own_worker, "tiny-chat/unload", key="").status_code == 200
    assert call(own_worker, "tiny-chat/load", key="").status_code == 200
    own_worker.engine.reset()
    for headers in ({}, {"content-type": "text/plain"}):
        answer = httpx.post(
            f"{own_worker.url}/v1/models/tiny-chat/unload",
            headers=headers | {"origin": "http://evil.example"},
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unsupported_content_type"
    answer = httpx.post(
        f"{own_worker.url}/v1/models/tiny-chat/unload", headers={"host": "evil.example"}
    )
    assert answer.status_code == 403
    assert own_worker.engine.received.empty()


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
