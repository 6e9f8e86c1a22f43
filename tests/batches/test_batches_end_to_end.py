"""Batches of a real node: each line of a file has one answer, whatever ends meanwhile."""

import json
import signal
import time

import openai
import pytest
from support.batches import (
    CHAT,
    CHAT_URL,
    EMBEDDING,
    EMBEDDINGS_URL,
    OWNER,
    add,
    by_custom_id,
    ended,
    find,
    lines_of,
    lines_with,
    tiny_chat,
    tiny_node,
    wait_for,
)
from support.node_process import API_KEY

pytestmark = pytest.mark.slow

LIMITED = "max_requests_per_minute = 2"


def test_batches_of_several_endpoints_are_answered(tmp_path, store):
    chats = add(
        store,
        CHAT_URL,
        [
            *(tiny_chat(f"Say {i}") for i in range(8)),
            tiny_chat("Hi", model="no-such-model"),
            tiny_chat("Hi", stream=True),
            tiny_chat("Hi", temperature=-1),
        ],
    )
    texts = add(store, "/v1/completions", [{"model": CHAT, "prompt": "Once", "max_tokens": 3}])
    vectors = add(store, EMBEDDINGS_URL, [{"model": EMBEDDING, "input": ["a", "b"]}])
    answers = add(
        store, "/v1/responses", [{"model": CHAT, "input": "Hi", "max_output_tokens": 16}]
    )
    foreign = add(store, CHAT_URL, [tiny_chat("Hi")], owner="no-such-key")
    with tiny_node(tmp_path, LIMITED) as node:
        node.wait_ready()
        done = {id: ended(store, id) for id in (chats, texts, vectors, answers, foreign)}
        assert "httpx" not in "".join(node.log)
        node.wait_for_log(r"batches \(pid \d+\) ended: exit code 0")
    assert {batch.status for batch in done.values()} == {"completed"}
    batch = done[chats]
    assert (batch.total, batch.completed, batch.failed) == (11, 8, 3)
    assert batch.output_tokens == sum(
        line["response"]["body"]["usage"]["completion_tokens"]
        for line in lines_of(store, batch.output_file_id).values()
    )
    errors = lines_of(store, batch.error_file_id)
    statuses = {id: line["response"]["status_code"] for id, line in errors.items()}
    assert statuses == {"r8": 404, "r9": 400, "r10": 400}
    params = {id: line["response"]["body"]["error"]["param"] for id, line in errors.items()}
    assert params == {"r8": "model", "r9": "stream", "r10": "temperature"}
    embedded = lines_of(store, done[vectors].output_file_id)["r0"]["response"]["body"]
    assert len(embedded["data"]) == 2
    assert done[texts].output_tokens == 3 and done[answers].output_tokens > 0
    refused = lines_of(store, done[foreign].error_file_id)["r0"]["response"]
    assert refused["status_code"] == 401


@pytest.mark.long
def test_batch_of_a_running_node_is_cancelled(tmp_path, store):
    id = add(store, CHAT_URL, [tiny_chat(f"Say {i}", max_tokens=4000) for i in range(40)])
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        wait_for(lambda: find(store, id).status == "in_progress")
        store.cancel(OWNER, id)
        batch = ended(store, id)
    assert batch.status == "cancelled" and batch.completed + batch.failed == 40
    errors = lines_of(store, batch.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}


def test_batch_of_a_client_wakes_the_node(tmp_path, state):
    line = {"custom_id": "a", "method": "POST", "url": CHAT_URL, "body": tiny_chat("Hi")}
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        assert "batches started" not in "".join(node.log)
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key=API_KEY) as client:
            file = client.files.create(file=json.dumps(line).encode(), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint=CHAT_URL, completion_window="24h"
            )
            wait_for(lambda: client.batches.retrieve(batch.id).status == "completed")
            batch = client.batches.retrieve(batch.id)
            assert batch.output_file_id is not None
            [text] = client.files.content(batch.output_file_id).text.splitlines()
    assert json.loads(text)["response"]["body"]["model"] == CHAT


@pytest.mark.long
def test_drain_leaves_a_batch_for_the_next_start(tmp_path, store):
    id = add(store, CHAT_URL, [tiny_chat(f"Count to {i}", max_tokens=3000) for i in range(60)])
    with tiny_node(tmp_path) as node:
        node.wait_ready()
        node.wait_for_log("60 requests")
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        assert time.monotonic() - began < 15  # of 30 s that requests of clients would have
    batch = find(store, id)
    assert batch.status == "in_progress" and batch.completed < 60


BODIES = {
    CHAT_URL: lambda i: tiny_chat(f"Say {i}"),
    "/v1/completions": lambda i: {"model": CHAT, "prompt": f"Say {i}", "max_tokens": 8},
    EMBEDDINGS_URL: lambda i: {"model": EMBEDDING, "input": f"Text {i}"},
    "/v1/responses": lambda i: {"model": CHAT, "input": f"Say {i}", "max_output_tokens": 16},
}


@pytest.mark.long
@pytest.mark.timeout(400)  # on a machine that is busy
def test_clients_batches_of_many_lines_are_answered(tmp_path, state):
    """As a user does it: upload, create, ask, download; one batch for each endpoint."""
    num = 200
    with (
        tiny_node(tmp_path) as node,
        openai.OpenAI(base_url="http://unused", api_key=API_KEY) as unused,
    ):
        node.wait_ready()
        client = unused.with_options(base_url=f"{node.url}/v1")
        made = {}
        for url, body_of in BODIES.items():
            data = b"\n".join(lines_with(url, [body_of(i) for i in range(num)]))
            file = client.files.create(file=("in.jsonl", data), purpose="batch")
            made[url] = client.batches.create(
                input_file_id=file.id, endpoint=url, completion_window="24h"
            )
        for url, created in made.items():
            wait_for(lambda id=created.id: client.batches.retrieve(id).status == "completed")
            batch = client.batches.retrieve(created.id)
            counts = batch.request_counts
            assert (counts.total, counts.completed, counts.failed) == (num, num, 0)
            assert batch.output_file_id is not None and batch.error_file_id is None
            found = by_custom_id(client.files.content(batch.output_file_id).text)
            assert list(found) == [f"r{i}" for i in range(num)]
            answers = [line["response"]["body"] for line in found.values()]
            assert {body["model"] for body in answers} == {BODIES[url](0)["model"]}
            assert batch.usage is not None and batch.usage.total_tokens == sum(
                body["usage"]["total_tokens"] for body in answers
            )
