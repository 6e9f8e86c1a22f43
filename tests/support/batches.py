"""Batches of a real node on tiny models: made in its store, and read from there."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import tiny
from support.node_process import API_KEY, NodeProcess

from mlxnode.batches.files import Kept
from mlxnode.batches.rows import StoredBatch
from mlxnode.batches.store import BatchStore
from mlxnode.config.keys import ApiKey

CHAT, EMBEDDING = "chat", "vectors"
OWNER = ApiKey.unnamed(API_KEY).id
CHAT_URL, EMBEDDINGS_URL = "/v1/chat/completions", "/v1/embeddings"
_CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{API_KEY}"
KEYS
[api.models.{CHAT}]
path = "{CHAT}"
type = "chat"
[api.models.{EMBEDDING}]
path = "{EMBEDDING}"
type = "embedding"
[server]
workers = 2
[engine]
kernels = "ops"
"""


def config_with(keys: str = "") -> str:
    """The configuration of a node with ``keys``, tables of TOML, beside its own key."""
    return _CONFIG.replace("KEYS", keys)


def tiny_node(folder: Path, keys: str = "") -> NodeProcess:
    """A node with a tiny chat model and a tiny embedding model."""
    if not (folder / CHAT).exists():
        tiny.make_chat_model(folder / CHAT, context=16_384)
        tiny.make_embedding_model(folder / EMBEDDING)
    return NodeProcess(folder, config_with(keys))


def tiny_chat(text: str, max_tokens: int = 8, **options: Any) -> dict[str, Any]:
    """A body whose answer has exactly ``max_tokens`` tokens."""
    messages = [{"role": "user", "content": text}]
    fixed = {"model": CHAT, "messages": messages, "max_tokens": max_tokens}
    return fixed | {"logit_bias": {str(tiny.EOS_ID): -100}} | options


def lines_with(url: str, bodies: list[dict[str, Any]]) -> list[bytes]:
    """The lines of an input file, whose custom ids are r0, r1 and so on."""
    return [
        json.dumps({"custom_id": f"r{i}", "method": "POST", "url": url, "body": body}).encode()
        for i, body in enumerate(bodies)
    ]


def add(
    store: BatchStore, url: str, bodies: list[dict], owner: str = OWNER, seconds: int = 600
) -> str:
    """The id of a new batch, whose lines are r0, r1 and so on."""
    upload = store.files.begin(owner)
    for line in lines_with(url, bodies):
        upload.write(line + b"\n")
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


def by_custom_id(text: str) -> dict[str, dict]:
    """The lines of a file of results; each custom id is to be there once."""
    lines = [json.loads(line) for line in text.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def lines_of(store: BatchStore, file_id: str | None) -> dict[str, dict]:
    """By the custom id, which is to be there once."""
    return {} if file_id is None else by_custom_id(store.files.path(file_id).read_text())


def pid_of_batches(node: NodeProcess) -> int:
    """Of its first incarnation."""
    return int(node.wait_for_log(r"(?s).*batches started \(pid (\d+)\)")[1])
