"""Batches of a real node: each line of a file has one answer, whatever ends meanwhile."""

import json
import time

from support.node_process import API_KEY, CHAT, NodeProcess

from mlxnode.batches.files import Kept
from mlxnode.batches.store import BatchStore
from mlxnode.config.keys import ApiKey

OWNER = ApiKey.unnamed(API_KEY).id


def test_try(tmp_path, monkeypatch, demo_chat, demo_embedding):
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path / "s"))
    store = BatchStore(tmp_path / "s" / "batches")
    upload = store.files.begin(OWNER)
    for i in range(40):
        upload.write(
            json.dumps(
                {
                    "custom_id": f"r{i}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {
                        "model": CHAT,
                        "max_tokens": 8,
                        "messages": [{"role": "user", "content": f"Say {i}"}],
                    },
                }
            ).encode()
            + b"\n"
        )
    store.files.keep([Kept(upload, "x.jsonl", "batch", None)])
    batch = store.create(
        OWNER,
        endpoint="/v1/chat/completions",
        input_file_id=upload.id,
        completion_window="24h",
        seconds=86400,
    )
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        end = time.time() + 60
        while time.time() < end and store.find(batch.id).is_open:
            time.sleep(0.5)
        b = store.find(batch.id)
        print("".join(node.log))
        print(b)
        print(
            store.files.path(b.output_file_id).read_text()[:1000] if b.output_file_id else None
        )
        print(store.files.path(b.error_file_id).read_text()[:1000] if b.error_file_id else None)
        assert b.status == "completed"
        node.wait_for_log("batches .*ended: exit code 0", 20)
