"""Batches of a real node: each line of a file has one answer, whatever ends meanwhile."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from support.node_process import API_KEY, CHAT, CONFIG, EMBEDDING, NodeProcess, is_running

from mlxnode.batches.files import Kept
from mlxnode.batches.rows import StoredBatch
from mlxnode.batches.store import BatchStore
from mlxnode.config.keys import ApiKey

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("demo_chat", "demo_embedding")]

OWNER = ApiKey.unnamed(API_KEY).id
LIMITED = CONFIG.replace("[api.models", "max_requests_per_minute = 2\n[api.models", 1)
CHAT_URL, EMBEDDINGS_URL = "/v1/chat/completions", "/v1/embeddings"


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "batches"


@pytest.fixture
def store(state) -> Iterator[BatchStore]:
    store = BatchStore(state)
    yield store
    store.close()


def add(
    store: BatchStore, url: str, bodies: list[dict], owner: str = OWNER, seconds: int = 600
) -> str:
    """The id of a new batch, whose lines are r0, r1 and so on."""
    upload = store.files.begin(owner)
    for i, body in enumerate(bodies):
        line = {"custom_id": f"r{i}", "method": "POST", "url": url, "body": body}
        upload.write(json.dumps(line).encode() + b"\n")
    store.files.keep([Kept(upload, "in.jsonl", "batch", None)])
    batch = store.create(
        owner,
        endpoint=url,
        input_file_id=upload.id,
        completion_window="10m",
        seconds=seconds,
    )
    assert batch is not None
    return batch.id


def chat(text: str, **options: object) -> dict:
    messages = [{"role": "user", "content": text}]
    return {"model": CHAT, "messages": messages, "max_tokens": 4, **options}


def wait_for(is_there: Callable[[], object], timeout: float = 120) -> None:
    pause, end = threading.Event(), time.monotonic() + timeout
    while not is_there():
        assert time.monotonic() < end
        pause.wait(0.05)


def find(store: BatchStore, id: str) -> StoredBatch:
    batch = store.find(id)
    assert batch is not None
    return batch


def ended(store: BatchStore, id: str) -> StoredBatch:
    wait_for(lambda: not find(store, id).is_open)
    return find(store, id)


def lines_of(store: BatchStore, file_id: str | None) -> dict[str, dict]:
    """By the custom id, which is to be there once."""
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in store.files.path(file_id).read_text().splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def pid_of_batches(node: NodeProcess) -> int:
    return int(node.wait_for_log(r"(?s).*batches started \(pid (\d+)\)")[1])


def test_batches_of_several_endpoints_are_answered(tmp_path, store):
    chats = add(
        store,
        CHAT_URL,
        [
            *(chat(f"Say {i}") for i in range(8)),
            chat("Hi", model="no-such-model"),
            chat("Hi", stream=True),
            chat("Hi", temperature=-1),
        ],
    )
    texts = add(store, "/v1/completions", [{"model": CHAT, "prompt": "Once", "max_tokens": 3}])
    vectors = add(store, EMBEDDINGS_URL, [{"model": EMBEDDING, "input": ["a", "b"]}])
    answers = add(
        store, "/v1/responses", [{"model": CHAT, "input": "Hi", "max_output_tokens": 16}]
    )
    foreign = add(store, CHAT_URL, [chat("Hi")], owner="no-such-key")
    with NodeProcess(tmp_path, LIMITED) as node:
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


def test_batch_of_a_running_node_is_cancelled(tmp_path, store):
    id = add(store, CHAT_URL, [chat(f"Say {i}", max_tokens=400) for i in range(40)])
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        wait_for(lambda: find(store, id).status == "in_progress")
        store.cancel(OWNER, id)
        batch = ended(store, id)
    assert batch.status == "cancelled" and batch.completed + batch.failed == 40
    errors = lines_of(store, batch.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}


def test_batch_of_a_client_wakes_the_node(tmp_path, state):
    line = {"custom_id": "a", "method": "POST", "url": CHAT_URL, "body": chat("Hi")}
    with NodeProcess(tmp_path) as node:
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


def wait_for_more(store: BatchStore, id: str) -> None:
    """Until more lines have a result than now."""
    before = find(store, id).completed
    wait_for(lambda: find(store, id).completed > before)


def test_drain_leaves_a_batch_for_the_next_start(tmp_path, store):
    id = add(store, CHAT_URL, [chat(f"Count to {i}", max_tokens=300) for i in range(60)])
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        node.wait_for_log("60 requests")
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        assert time.monotonic() - began < 15  # of 30 s that requests of clients would have
    batch = find(store, id)
    assert batch.status == "in_progress" and batch.completed < 60


@pytest.mark.long
@pytest.mark.timeout(400)
def test_batch_outlives_each_process_and_the_node(tmp_path, store):
    num = 120
    id = add(store, CHAT_URL, [chat(f"Count to {i}", max_tokens=8) for i in range(num)])
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        pids: list[Callable[[], int]] = [
            lambda: pid_of_batches(node),
            node.engine_pid,
            lambda: node.worker_pids()[0],
        ]
        for pid_of in pids:
            wait_for_more(store, id)
            pid = pid_of()
            os.kill(pid, signal.SIGKILL)
            node.wait_for_log(rf"\(pid {pid}\) ended: SIGKILL")
        wait_for_more(store, id)
        node.process.kill()
        node.process.wait()
        wait_for(lambda: not is_running(pid_of_batches(node)))
    assert find(store, id).is_open
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        batch = ended(store, id)
    assert (batch.status, batch.completed, batch.failed) == ("completed", num, 0)
    assert list(lines_of(store, batch.output_file_id)) == [f"r{i}" for i in range(num)]
