"""The spans of a whole node: its engine tells how long requests waited and were computed."""

import os
import time
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from support import tiny
from support.node_process import NodeProcess
from support.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.slow

KEY, ADMIN_KEY = "sk-tracing", "sk-tracing-admin"
CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
admin_key = "{ADMIN_KEY}"
[api.models.chat]
path = "chat"
type = "chat"
preload = false
[api.models.embedding]
path = "embedding"
type = "embedding"
[server]
workers = 2
tracing = true
"""
CHAT = {
    "model": "chat",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 40,
    "logit_bias": {"100": 100},
}


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def node(collector, tmp_path_factory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "chat")
    tiny.make_embedding_model(folder / "embedding")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "20"}
    with NodeProcess(folder, CONFIG, env=os.environ | variables) as process:
        process.wait_ready()
        yield process


def post(node: NodeProcess, path: str, body: dict) -> tuple[httpx.Response, float]:
    """The answer, and the seconds that the client waited."""
    began = time.monotonic()
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{node.url}/v1/{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer, time.monotonic() - began


@pytest.mark.parametrize("is_stream", [False, True])
def test_parts_of_a_text_fill_the_time_of_the_request(node, collector, is_stream):
    answer, seconds = post(node, "chat/completions", CHAT | {"stream": is_stream})
    spans = collector.trace(answer.headers["x-request-id"])
    assert set(spans) == {"", "prepare", "queue", "prefill", "decode", "write"}
    whole = spans[""]
    assert 0 < whole.seconds <= seconds
    parts = [spans[name] for name in ("prepare", "queue", "prefill", "decode")]
    assert sum(part.seconds for part in parts) <= whole.seconds + 1e-6
    assert spans["prefill"].seconds > 0 and spans["decode"].seconds > 0
    edges = [
        whole.begin,
        *(edge for part in parts for edge in (part.begin, part.end)),
        whole.end,
    ]
    assert edges == sorted(edges)
    assert whole.attributes["gen_ai.usage.output_tokens"] == 40
    assert whole.attributes["gen_ai.response.finish_reasons"] == ["length"]


def test_loading_of_a_model_is_in_the_queue(node, collector):
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    unload = httpx.post(f"{node.url}/v1/models/chat/unload", headers=headers, timeout=60)
    assert unload.status_code == 200, unload.text
    answer, _ = post(node, "chat/completions", CHAT)
    spans = collector.trace(answer.headers["x-request-id"])
    again, _ = post(node, "chat/completions", CHAT)
    warm = collector.trace(again.headers["x-request-id"])
    assert spans["queue"].seconds > warm["queue"].seconds


def test_vectors_have_the_time_of_the_engine(node, collector):
    answer, seconds = post(node, "embeddings", {"model": "embedding", "input": ["a", "b"]})
    spans = collector.trace(answer.headers["x-request-id"])
    assert set(spans) == {"", "prepare", "queue", "compute", "write"}
    assert 0 < spans["compute"].seconds < spans[""].seconds <= seconds
