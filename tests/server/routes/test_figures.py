"""``/v1/figures``, ``/v1/requests`` and the order to cancel, at a worker of a scripted node."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from msgspec.structs import replace
from support.scripted_node import ScriptedNode

from mlxnode.messages.control import Access, Cancel, Drain, Ping, Pong
from mlxnode.server.http.figures_feed import MAX_WATCHERS_PER_KEY

WAIT = 20.0  # seconds
URL = "/v1/figures"


@pytest.fixture(scope="module")
def own(start_worker, served_models):
    """A worker whose figures no test has read."""
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def node(own) -> Iterator[ScriptedNode]:
    own.settle()
    scripted = ScriptedNode(own)
    yield scripted
    scripted.close()


def headers(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} | more


def document(node: ScriptedNode, key: str) -> dict[str, Any]:
    """The figures of the node, as ``key`` sees them."""
    answer = httpx.get(f"{node.worker.url}{URL}?once=true", headers=headers(key), timeout=WAIT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """The name and the data of each event."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_the_admin_sees_everything_in_one_document(node):
    seen = document(node, node.worker.admin_key)
    assert (seen["object"], seen["sees_all"], seen["key"]) == ("figures", True, "admin")
    assert seen["now"]["generated_tokens"] == 12.5 and seen["latency"]["window"] == 60
    assert seen["latency"]["inter_token_median"] == 0.25
    assert seen["limits"] | {"memory": 1000, "kv_total": 300} == seen["limits"]
    assert seen["limits"]["prefix_entries"] == 3  # two ids with the same work
    assert [key["id"] for key in seen["keys"]] == [node.key, "narrow"]
    assert [one["id"] for one in seen["requests"]] == ["1-1", "1-2", "2-1"]
    assert seen["num_requests"] == 3 and seen["processes"][0]["starts"] == 3
    models = {model["id"]: model for model in seen["models"]}
    assert set(models) == {"tiny-chat", "org/tiny-text", "tiny-embedding"}
    chat = models["tiny-chat"]
    assert (chat["running"], chat["waiting"], chat["fit"]) == (2, 1, "fits")
    assert (chat["generated_tokens"], chat["state"]) == (12.5, "loaded")
    series = seen["history"]["series"]
    assert set(series) == set(seen["now"]) and series["running"] == [1, 2]
    assert series["first_token"] == [None, 0.5]


def test_a_key_sees_the_rates_of_the_node_and_its_own_rows(node):
    seen = document(node, node.worker.narrow_key)
    assert (seen["sees_all"], seen["key"]) == (False, "narrow")
    assert seen["now"]["generated_tokens"] == 12.5
    assert [model["id"] for model in seen["models"]] == ["org/tiny-text"]
    assert [key["id"] for key in seen["keys"]] == ["narrow"]
    assert [one["id"] for one in seen["requests"]] == ["1-2"]
    assert seen["num_requests"] == 1 and seen["processes"] == []
    answer = httpx.get(f"{node.worker.url}/v1/requests", headers=headers(node.worker.key))
    assert [one["id"] for one in answer.json()["data"]] == ["1-1"]
    assert answer.json()["num_requests"] == 1


@pytest.mark.parametrize("method, path", [("GET", URL), ("GET", "/v1/requests")])
def test_strangers_see_nothing(node, method, path):
    for sent in ({}, headers("sk-wrong-0123456789abcdef")):
        answer = httpx.request(method, f"{node.worker.url}{path}", headers=sent)
        assert answer.status_code == 401
    answer = httpx.post(f"{node.worker.url}/v1/requests/1-1/cancel", json={})
    assert answer.status_code == 401


def test_a_key_beside_the_admin_key_is_the_first_that_was_sent(node):
    both = headers(node.worker.key) | {"x-api-key": node.worker.admin_key}
    answer = httpx.get(f"{node.worker.url}{URL}?once=1", headers=both)
    assert answer.json()["sees_all"] is False


def test_without_keys_everybody_is_the_administrator(plain_worker):
    scripted = ScriptedNode(plain_worker)
    try:
        url = f"{plain_worker.url}{URL}?once=1"
        assert httpx.get(url).json()["sees_all"] is False  # there is an admin key
        admin = httpx.get(url, headers=headers(plain_worker.admin_key)).json()
        assert admin["sees_all"] is True
        strange = httpx.get(url, headers={"host": "evil.example"})
        assert strange.status_code == 403
    finally:
        scripted.close()


def test_a_stream_has_an_event_each_second_and_the_history_once(node):
    with httpx.stream(
        "GET", f"{node.worker.url}{URL}", headers=headers(node.worker.key), timeout=WAIT
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events(stream.iter_lines())
        seen = [next(told) for _ in range(3)]
    assert [name for name, _ in seen] == ["figures"] * 3
    assert [figures["history"] is not None for _, figures in seen] == [True, False, False]
    times = [figures["time"] for _, figures in seen]
    assert all(0.5 < later - earlier < 5 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    "accept, kind",
    [
        ("application/json", "application/json"),
        ("*/*", "text/event-stream"),
        ("text/event-stream, application/json", "text/event-stream"),
    ],
)
def test_a_client_gets_the_form_that_it_accepts(node, accept, kind):
    sent = headers(node.worker.key, accept=accept)
    with httpx.stream("GET", f"{node.worker.url}{URL}", headers=sent) as answer:
        assert answer.headers["content-type"].startswith(kind)


def test_a_wrong_query_is_named(node):
    answer = httpx.get(f"{node.worker.url}{URL}?once=maybe", headers=headers(node.worker.key))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "once"


@pytest.mark.long
def test_many_watchers_cost_one_read_a_second_and_nobody_none(node):
    num_watchers, num_events = 50, 3

    async def watch(client: httpx.AsyncClient, key: str) -> list[float]:
        async with client.stream("GET", URL, headers=headers(key)) as stream:
            times = []
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    times.append(json.loads(line[6:])["time"])
                if len(times) == num_events:
                    return times
        raise AssertionError("the stream ended")

    async def watch_all() -> list[list[float]]:
        limits = httpx.Limits(max_connections=None)
        url = node.worker.url
        async with httpx.AsyncClient(base_url=url, timeout=WAIT, limits=limits) as client:
            keys = [node.worker.key, node.worker.narrow_key, node.worker.admin_key]
            tasks = [watch(client, keys[i % 3]) for i in range(num_watchers)]
            return await asyncio.gather(*tasks)

    before = node.num_reads
    times = asyncio.run(watch_all())
    distinct = {time for each in times for time in each}
    assert len(distinct) <= node.num_reads - before + 1  # the first may be read already
    assert node.num_reads - before <= num_events + 2  # those that came late see one more
    ended_at = node.num_reads
    with node.was_read:
        is_read = node.was_read.wait_for(lambda: node.num_reads > ended_at + 1, 1.5)
    assert not is_read


def test_a_key_has_so_many_streams_and_others_have_theirs(node):
    url, own = f"{node.worker.url}{URL}", headers(node.worker.key)
    with httpx.Client(timeout=WAIT, limits=httpx.Limits(max_connections=None)) as client:
        streams = [
            client.send(client.build_request("GET", url, headers=own), stream=True)
            for _ in range(MAX_WATCHERS_PER_KEY)
        ]
        assert {stream.status_code for stream in streams} == {200}
        refused = client.get(url, headers=own)
        assert refused.status_code == 429 and "retry-after" in refused.headers
        assert client.get(f"{url}?once=1", headers=own).status_code == 200
        narrow = headers(node.worker.narrow_key)
        with client.stream("GET", url, headers=narrow) as other:
            assert other.status_code == 200
        for stream in streams:
            stream.close()
    for _ in range(1000):  # the worker sees that they have left when it writes
        with httpx.stream("GET", url, headers=own, timeout=WAIT) as stream:
            if stream.status_code == 200:
                return
    raise AssertionError("the places are not free again")


def test_a_stream_ends_with_an_error_when_the_node_tells_nothing_any_more(node):
    with httpx.stream(
        "GET", f"{node.worker.url}{URL}", headers=headers(node.worker.key), timeout=WAIT
    ) as stream:
        told = events(stream.iter_lines())
        next(told)
        node.close()
        *_, (name, last) = told
    assert name == "error" and "cannot be read" in last["error"]["message"]
    answer = httpx.get(f"{node.worker.url}/v1/requests", headers=headers(node.worker.key))
    assert answer.status_code == 503


def test_a_cancel_goes_to_the_supervisor_if_the_request_is_seen(node):
    worker = node.worker
    order = f"{worker.url}/v1/requests/{{}}/cancel".format
    for id in ("1-2", "2-1", "9-9", "x"):  # of others, or of nobody
        answer = httpx.post(order(id), headers=headers(worker.key))
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "request_not_found"
        assert answer.json()["error"]["param"] == "request_id"
    answer = httpx.post(order("1-1"), headers=headers(worker.key))
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["status"]) == ("1-1", "cancelling")
    assert worker.wait_for(Cancel).id == "1-1"
    for id in ("1-1", "1-2", "2-1"):
        answer = httpx.post(order(id), headers=headers(worker.admin_key), json={})
        assert answer.status_code == 200 and worker.wait_for(Cancel).id == id


def test_a_page_of_another_origin_cannot_cancel_unseen(node):
    sent = headers(node.worker.key, origin="http://evil.example")
    url = f"{node.worker.url}/v1/requests/1-1/cancel"
    plain = sent | {"content-type": "text/plain"}
    assert httpx.post(url, headers=plain, content="{}").status_code == 400
    assert httpx.post(url, headers=sent).status_code == 400


@pytest.fixture
def ending(start_worker, served_models):
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        scripted = ScriptedNode(worker)
        yield scripted
        scripted.close()


def test_a_stream_ends_when_its_key_does_and_when_the_node_drains(ending):
    worker, url = ending.worker, f"{ending.worker.url}{URL}"
    with (
        httpx.stream("GET", url, headers=headers(worker.key), timeout=WAIT) as revoked,
        httpx.stream("GET", url, headers=headers(worker.admin_key), timeout=WAIT) as kept,
    ):
        worker.send(Access(keys=[key for key in worker.keys if key.is_admin]))
        *_, (name, last) = events(revoked.iter_lines())
        assert (name, last["error"]["code"]) == ("error", "invalid_api_key")
        ending.figures = replace(ending.figures, is_draining=True)
        told = events(kept.iter_lines())
        assert any(figures["is_draining"] for _, figures in told)
        worker.send(Drain(WAIT))
        *_, (name, last) = told
        assert name == "error" and "shutting down" in last["error"]["message"]
    worker.process.join(WAIT)
    assert worker.process.exitcode == 0


def test_a_watcher_is_no_work(node):
    with httpx.stream(
        "GET", f"{node.worker.url}{URL}", headers=headers(node.worker.key), timeout=WAIT
    ) as stream:
        next(events(stream.iter_lines()))
        node.worker.send(Ping(1))
        pong = node.worker.wait_for(Pong)
    assert (pong.num_requests, pong.requests) == (0, [])
