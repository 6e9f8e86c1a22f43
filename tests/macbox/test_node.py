"""A whole node in the box: real processes, and answers over HTTP."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from macbox.box import environment, lower_soft_limit
from macbox.facts import MACS
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
api_key = "sk-box"
[api.models.chat]
path = "{chat}"
type = "chat"
[api.models.embedding]
path = "{embedding}"
type = "embedding"
[server]
workers = 2
[engine]
kernels = "metal"
"""


def start(folder: Path, mac: str) -> NodeProcess:
    chat = tiny.make_chat_model(folder / "chat")
    embedding = tiny.make_embedding_model(folder / "embedding")
    config = CONFIG.format(chat=chat, embedding=embedding)
    return NodeProcess(folder, config, env=environment(mac), preexec_fn=lower_soft_limit)


@pytest.fixture(scope="module", params=MACS)
def node(request, tmp_path_factory) -> Iterator[NodeProcess]:
    """A node on each Mac. Its kernels must be Metal's: a fallback would end the start."""
    folder = tmp_path_factory.mktemp("node")
    with start(folder, request.param) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def client(node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="sk-box", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **options):
    messages = [{"role": "user", "content": "Hello!"}]
    return client.chat.completions.create(
        model="chat", messages=messages, max_tokens=16, **options
    )


@pytest.mark.long
def test_node_in_the_box_answers_a_chat(client):
    answer = ask(client, temperature=0.0, logprobs=True, top_logprobs=3)
    assert answer.usage.completion_tokens == len(answer.choices[0].logprobs.content) > 0


@pytest.mark.long
def test_node_in_the_box_streams_what_it_answers_at_once(client):
    options = {"temperature": 0.9, "seed": 4, "frequency_penalty": 0.5}
    whole = ask(client, **options).choices[0].message.content
    chunks = ask(client, stream=True, **options)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole


def test_node_in_the_box_follows_a_schema(client):
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    answer = client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "JSON"}],
        max_tokens=200,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": schema, "strict": True},
        },
    )
    assert json.loads(answer.choices[0].message.content)["a"] in ("x", "y")


def test_node_in_the_box_embeds(client):
    texts = ["one", "another text"]
    vectors = client.embeddings.create(model="embedding", input=texts).data
    for vector in vectors:
        assert sum(x * x for x in vector.embedding) == pytest.approx(1.0, rel=1e-4)


def test_node_in_the_box_serves_many_clients_at_once(client):
    """More messages than the small buffers of the pipes hold."""
    answers: list[str] = []

    def run(seed: int) -> None:
        stream = ask(client, stream=True, temperature=1.0, seed=seed, n=2)
        answers.append("".join(c.choices[0].delta.content or "" for c in stream if c.choices))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(answers) == 12


def test_node_in_the_box_lists_its_models(node):
    headers = {"Authorization": "Bearer sk-box"}
    listed = httpx.get(f"{node.url}/v1/models", headers=headers).json()["data"]
    assert {model["id"] for model in listed} == {"chat", "embedding"}


def test_node_in_the_box_starts_without_a_complaint(node):
    assert not [line for line in node.log if re.search(r"warn|error|trace", line, re.I)]


@pytest.mark.long
def test_node_in_the_box_ends_as_asked(tmp_path):
    with start(tmp_path, "small") as node:
        node.wait_ready()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
