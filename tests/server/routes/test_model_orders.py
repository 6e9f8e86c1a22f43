"""Models that an administrator loads and unloads."""

import contextlib
import dataclasses
import http.client

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT
from support.model_calls import call, states, told, wait_for_state

from mlxnode.config.keys import ApiKey
from mlxnode.messages.control import Access, Models
from mlxnode.messages.data import Done, Failed, Load, Unload

CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


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
