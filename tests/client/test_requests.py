"""Requests to a server, over a socket."""

import contextlib
import threading

import pytest
from support.certificates import make_pair
from support.fake_api import DONE, FakeApi, chunk, event, says, usage

from mlxnode.client.answer import Answer, Piece
from mlxnode.client.endpoint import Endpoint
from mlxnode.client.events import BROKEN
from mlxnode.client.requests import Client
from mlxnode.errors import RequestError


@pytest.fixture
def api():
    with FakeApi() as server:
        yield server


@pytest.fixture
def client(api):
    with Client(Endpoint(api.url)) as found:
        yield found


def test_models_are_those_of_the_server_with_the_key(api):
    api.key = "sk-own"
    with Client(Endpoint(api.url, "sk-own")) as client:
        assert [model.id for model in client.models()] == ["fake"]
    with Client(Endpoint(api.url)) as client, pytest.raises(RequestError) as refused:
        client.models()
    assert refused.value.status == 401 and "MLXNODE_API_KEY" in str(refused.value)


def test_the_own_certificate_of_a_node_is_trusted_and_no_other(tmp_path):
    own, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    with FakeApi(pair=own) as api:
        with Client(Endpoint(api.url, certificate=own.certificate)) as client:
            assert [model.id for model in client.models()] == ["fake"]
        for certificate in (other.certificate, None):
            with (
                Client(Endpoint(api.url, certificate=certificate)) as client,
                pytest.raises(RequestError, match="certificate verify failed"),
            ):
                client.models()


def test_no_server_and_another_program_are_told_apart(api):
    api.models = "no list"
    with Client(Endpoint(api.url)) as client, pytest.raises(RequestError) as other:
        client.models()
    assert other.value.status == 200 and "no server of this API" in str(other.value)
    url = api.url.rpartition(":")[0] + ":9"
    with Client(Endpoint(url)) as client, pytest.raises(RequestError) as none:
        client.models()
    assert none.value.status is None and str(none.value).startswith(f"no node answers at {url}")


def test_answer_grows_by_pieces_and_counts(api, client):
    api.script = lambda _: iter(
        [chunk(reasoning="Hm."), chunk("Hi"), chunk("!", finish="stop"), usage(7), DONE]
    )
    answer = Answer()
    pieces = list(client.stream_chat({"model": "fake", "messages": []}, answer))
    assert pieces == [Piece("reasoning", "Hm."), Piece("content", "Hi"), Piece("content", "!")]
    assert (answer.content, answer.reasoning, answer.finish_reason) == ("Hi!", "Hm.", "stop")
    assert answer.num_tokens == 7 and answer.first_token <= answer.seconds
    assert api.bodies[0]["stream_options"] == {"include_usage": True}


def test_answer_survives_events_of_another_shape(api, client):
    strange = [{"choices": {}}, {"choices": [3]}, {"choices": [{"delta": None}]}, {"usage": 3}]
    api.script = lambda _: iter([*map(event, strange), chunk("x"), DONE])
    answer = Answer()
    list(client.stream_chat({}, answer))
    assert (answer.content, answer.usage, answer.num_tokens) == ("x", {}, 1)


def test_answer_that_breaks_off_keeps_what_came(api, client):
    api.script = lambda _: iter([chunk("half")])
    answer = Answer()
    with pytest.raises(RequestError, match=BROKEN):
        list(client.stream_chat({}, answer))
    assert answer.content == "half" and answer.finish_reason is None


def test_closing_the_answer_closes_the_connection(api, client):
    paused = threading.Event()

    def endless(_):
        while not paused.wait(0.01):
            yield chunk("x")

    api.script = endless
    with contextlib.closing(client.stream_chat({}, Answer())) as pieces:
        next(pieces)
    assert api.left.wait(20)


def test_refusal_is_one_line_with_its_status(api, client):
    api.refusal = (400, {"error": {"message": "too\nlong"}})
    with pytest.raises(RequestError, match=r"^too long$") as refused:
        list(client.stream_chat({}, Answer()))
    assert refused.value.status == 400


def test_embed_gives_a_vector_for_each_text(api, client):
    assert client.embed("fake", ["a", "bcd"], 2) == ([[1.0, 1.0], [3.0, 1.0]], 2)
    assert api.bodies[0]["dimensions"] == 2


def test_says_is_a_whole_answer(api, client):
    api.script = says("a", "b")
    answer = Answer()
    list(client.stream_chat({}, answer))
    assert answer.as_document()["content"] == "ab"
