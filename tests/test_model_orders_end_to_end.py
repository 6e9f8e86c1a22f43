"""A real node whose models are loaded when they are asked for, and unloaded again."""

import threading
from collections.abc import Iterator

import httpx2 as httpx
import openai
import pytest
from support import tiny
from support.node_process import NodeProcess

from mlxnode.footprint import footprint_of

pytestmark = pytest.mark.slow

KEY, ADMIN = "sk-user-0123456789abcdef", "sk-admin-0123456789abcdef"
CONFIG = """
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
admin_key = "{ADMIN}"
[api.models.kept]
path = "{folder}/kept"
type = "chat"
[api.models."org/lazy"]
path = "{folder}/lazy"
type = "chat"
preload = false
[api.models.vectors]
path = "{folder}/vectors"
type = "embedding"
preload = false
[api.models.broken]
path = "{folder}/broken"
type = "chat"
preload = false
[server]
workers = 2
[engine]
prefix_cache_gb = 0
"""
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    for name in ("kept", "lazy", "broken"):
        tiny.make_chat_model(folder / name, seed=len(name))
    (folder / "broken" / "tokenizer.json").write_text("{}")
    tiny.make_embedding_model(folder / "vectors")
    with NodeProcess(folder, CONFIG.format(KEY=KEY, ADMIN=ADMIN, folder=folder)) as node:
        node.wait_ready()
        yield node


@pytest.fixture
def client(node) -> Iterator[openai.OpenAI]:
    """Nothing is loaded but what is preloaded."""
    for model in ("org/lazy", "vectors"):
        assert order(node, model, "unload")["status"] == "unloaded"
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def order(node: NodeProcess, model: str, what: str, **body) -> dict:
    url = f"{node.url}/v1/models/{model}/{what}"
    headers = {"authorization": f"Bearer {ADMIN}"}
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(client: openai.OpenAI, model: str, **options):
    return client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=8, temperature=0, **options
    )


def status(client: openai.OpenAI, model: str) -> str:
    return client.models.retrieve(model).status


def test_a_model_is_loaded_by_its_first_request_and_not_before(client):
    before = {model.id: model.status for model in client.models.list().data}
    assert before["kept"] == "loaded" and before["org/lazy"] == before["vectors"] == "unloaded"
    tokens = client.post(
        "/messages/count_tokens",
        body={"model": "org/lazy", "messages": MESSAGES, "max_tokens": 1},
        cast_to=object,
    )
    assert tokens["input_tokens"] > 0 and status(client, "org/lazy") == "unloaded"
    text = ask(client, "org/lazy").choices[0].message.content
    assert status(client, "org/lazy") == "loaded"
    chunks = list(ask(client, "org/lazy", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert len(client.embeddings.create(model="vectors", input="a").data) == 1
    assert status(client, "vectors") == "loaded"


def test_a_stream_goes_on_while_another_model_is_loaded(node, client):
    stream = client.chat.completions.create(
        model="kept",
        messages=MESSAGES,
        max_tokens=300,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(client, "org/lazy")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert len(list(stream)) > 10
    for thread in threads:
        thread.join(60)
    assert (
        len({answer.choices[0].message.content for answer in answers}) == 1 == len(answers) / 4
    )


def test_an_administrator_loads_pins_and_unloads(node, client):
    loaded = order(node, "org%2Flazy", "load", pin=True)
    assert (loaded["id"], loaded["status"], loaded["pinned"]) == ("org/lazy", "loaded", True)
    assert client.models.retrieve("org/lazy").pinned
    assert not order(node, "org/lazy", "load", pin=False)["pinned"]
    assert order(node, "org/lazy", "unload")["status"] == "unloaded"
    assert status(client, "kept") == "loaded"
    with pytest.raises(openai.PermissionDeniedError):
        client.post("/models/kept/unload", cast_to=object)


def test_a_model_that_cannot_be_opened_fails_alone(client):
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, "broken", stream=stream)
        assert (caught.value.status_code, caught.value.code) == (503, "model_failed")
    assert ask(client, "kept").choices


@pytest.mark.long
def test_ten_cycles_give_the_memory_of_the_workers_back(node, client):
    def cycle() -> None:
        assert order(node, "org/lazy", "load")["status"] == "loaded"
        for _ in range(4):  # workers take turns
            assert ask(client, "org/lazy").choices
        assert order(node, "org/lazy", "unload")["status"] == "unloaded"

    def memory() -> int:
        return sum(filter(None, map(footprint_of, node.worker_pids())))

    for _ in range(3):
        cycle()
    before = memory()
    for _ in range(10):
        cycle()
    assert memory() < before + 30_000_000
    assert ask(client, "org/lazy").choices
