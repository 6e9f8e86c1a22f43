"""A node over a folder of five tiny models that no table names: all that a new user meets."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from support import tiny
from support.disk import make_models
from support.node_process import NodeProcess

from mlxnode.figures import EngineFigures
from mlxnode.process.status_socket import read_status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, ADMIN = "sk-zero-configuration", "sk-admin-configuration"
CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
admin_key = "{ADMIN}"
[server]
workers = 2
keep_alive_after = 0
[server.discovery]
search = ["models"]
huggingface = false
lm_studio = false
[engine]
"""
# Room for two of three models with 7 MB of weights, see tests/engine/residency/test_room.py.
SMALL = "memory_gb = 0.044\nbuffer_cache_gb = 0\nmax_batch_size = 2\nnum_speculative_tokens = 0"
TYPES = {
    "Tiny-Chat": "chat",
    "Tiny-Completion": "completion",
    "Tiny-Embedding": "embedding",
    "Tiny-Reranker": "rerank",
    "Tiny-Qwen": "chat",
}
CYCLES = 10
TIMEOUT = 60


class Home:
    """A node, its folder of models and its HTTP API."""

    def __init__(self, folder: Path, node: NodeProcess):
        self.folder = folder
        self.node = node
        headers = {"authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=f"{node.url}/v1", headers=headers, timeout=TIMEOUT)
        self.loads: Counter[str] = Counter()  # as they have to be
        self._loaded: set[str] = set()
        self._port = int(node.url.rpartition(":")[2])

    def run(self, *command: str) -> str:
        """The output of a command for this node."""
        arguments = [sys.executable, "-m", "mlxnode", *command, "--config"]
        result = subprocess.run(
            [
                *arguments,
                str(self.folder / "config.toml"),
                "--address",
                f"127.0.0.1:{self._port}",
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def listed(self) -> dict[str, dict]:
        return {model["id"]: model for model in self.http.get("/models").json()["data"]}

    def wait_listed(self, is_there) -> dict[str, dict]:
        """``/v1/models``, once it is as asked."""
        end, pause = time.monotonic() + TIMEOUT, threading.Event()
        while not is_there(found := self.listed()):
            assert time.monotonic() < end, found
            pause.wait(0.1)
        return found

    def engine(self, is_there=lambda engine: True) -> EngineFigures:
        """The figures of the engine, once they are as asked: it tells them once a second."""
        end, pause = time.monotonic() + TIMEOUT, threading.Event()
        while (found := read_status(self._port).engine) is None or not is_there(found):
            assert time.monotonic() < end, found
            pause.wait(0.1)
        return found

    def wait_states(self, *loaded: str, loads: Counter | None = None) -> EngineFigures:
        """The figures, once these models are loaded, no others, each as often as told."""

        def is_there(engine: EngineFigures) -> bool:
            states = {model.id: model.state for model in engine.models}
            counts = {model.id: model.num_loads for model in engine.models}
            wanted = {id: "loaded" if id in loaded else "unloaded" for id in states}
            return states == wanted and (
                loads is None or counts == {id: loads[id] for id in counts}
            )

        return self.engine(is_there)

    def note(self, id: str) -> None:
        """A request for this model, which loads it unless it is loaded."""
        self.loads[id] += id not in self._loaded
        self._loaded.add(id)

    def order(self, model: str, what: str) -> None:
        headers = {"authorization": f"Bearer {ADMIN}"}
        answer = self.http.post(f"/models/{model}/{what}", json={}, headers=headers)
        assert answer.status_code == 200, answer.text
        self._loaded.discard(model)

    def unload_all(self) -> None:
        for id in self.listed():
            self.order(id, "unload")

    def ask(self, type: str, model: str) -> dict:
        """The answer of the endpoint of this type of model."""
        messages = [{"role": "user", "content": "hi"}]
        path, body = {
            "chat": ("chat/completions", {"messages": messages, "max_tokens": 4}),
            "completion": ("completions", {"prompt": "Once", "max_tokens": 4}),
            "embedding": ("embeddings", {"input": "hi"}),
            "rerank": ("rerank", {"query": "a", "documents": ["b", "c"]}),
        }[type]
        answer = self.http.post(f"/{path}", json={"model": model} | body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def home(tmp_path_factory, models) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "models/org").mkdir(parents=True)
    for id, kind in (
        ("Chat", "chat"),
        ("Completion", "completion"),
        ("Embedding", "embedding"),
    ):
        (models / kind).rename(folder / f"models/Tiny-{id}")
    (models / "rerank").rename(folder / "models/org/Tiny-Reranker")
    (models / "m.gguf").rename(folder / "models/Tiny-Qwen.gguf")
    yield from start(folder)


def start(folder: Path, engine: str = "") -> Iterator[Home]:
    with pytest.MonkeyPatch.context() as patch:
        # Also the tests themselves ask the node, at its socket in this folder.
        patch.setenv("MLXNODE_CACHE", str(folder / "cache"))
        with NodeProcess(folder, CONFIG + engine) as node:
            node.wait_ready()
            home = Home(folder, node)
            with home.http:
                yield home


def test_all_are_listed_with_verdicts_and_none_is_loaded(home):
    found = home.wait_listed(lambda models: all("fit" in model for model in models.values()))
    assert {id: model["type"] for id, model in found.items()} == TYPES
    for id, model in found.items():
        assert model["status"] == "unloaded" and model["fit"]["fits"], model
        assert id.lower() in model["aliases"]
    home.wait_states(loads=Counter())
    listed = json.loads(home.run("models", "--json"))
    rows = {row["id"]: row for row in listed["models"]}
    assert listed["is_running"] and rows.keys() == TYPES.keys()
    for id, row in rows.items():
        assert (row["type"], row["origin"], row["state"]) == (TYPES[id], "found", "unloaded")
        assert row["fit"] == "yes" and row["on_disk"] and id.lower() in row["aliases"]


@pytest.mark.parametrize("id", TYPES)
def test_each_is_loaded_by_its_first_request_by_id_or_alias(home, id):
    home.unload_all()
    for name in (id.lower(), id):
        home.note(id)
        assert home.ask(TYPES[id], name)["model"] == id
    found = {model.id: model for model in home.wait_states(id, loads=home.loads).models}
    assert found[id].weight_bytes > 0
    assert home.listed()[id]["status"] == "loaded"
    status = json.loads(home.run("status", "--json"))["engine"]["models"]
    states = {model["id"]: (model["state"], model["num_loads"]) for model in status}
    assert states == {id: (model.state, model.num_loads) for id, model in found.items()}


@pytest.mark.parametrize("id", ["Tiny-Chat", "Tiny-Qwen"])
def test_stream_is_kept_alive_while_its_model_is_loaded(home, id):
    home.unload_all()
    home.note(id)
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": id.lower(), "messages": messages, "max_tokens": 4, "stream": True}
    with home.http.stream("POST", "/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200 and lines[0] == ": keep-alive"
    assert lines[-1] == "data: [DONE]" and len(lines) > 3


@pytest.mark.long
def test_ten_cycles_give_the_memory_back(home):
    home.unload_all()
    levels = []
    for _ in range(1 + CYCLES):  # the first one imports and compiles
        for id, type in TYPES.items():
            home.note(id)
            home.ask(type, id)
            home.order(id, "unload")
        memory = home.wait_states(loads=home.loads).memory
        levels.append((memory.active, memory.buffer_cache, memory.kv_claimed))
    assert set(levels[1:]) == {levels[1]} and levels[1][2] == 0, levels


def test_reload_finds_a_model_that_was_put_into_the_folder(home):
    tiny.make_chat_model(home.folder / "models/Tiny-Sixth", seed=6)
    assert "Tiny-Sixth" not in home.listed()
    assert "new models: Tiny-Sixth" in home.run("reload")
    found = home.wait_listed(lambda models: "fit" in models["Tiny-Sixth"])["Tiny-Sixth"]
    assert (found["status"], found["fit"]["fits"]) == ("unloaded", True)
    home.note("Tiny-Sixth")
    assert home.ask("chat", "tiny-sixth")["model"] == "Tiny-Sixth"


@pytest.mark.long
def test_least_recently_used_models_make_room_for_others(tmp_path):
    for seed, id in enumerate(("One", "Two", "Three")):
        tiny.make_chat_model(tmp_path / f"models/{id}", hidden=256, layers=3, seed=seed)
    for home in start(tmp_path, SMALL):
        for id, loaded in (("one", "One"), ("two", "One Two"), ("one", "One Two")):
            home.ask("chat", id)
            home.wait_states(*loaded.split())
        home.ask("chat", "three")
        home.wait_states("One", "Three")
        home.ask("chat", "two")
        found = home.wait_states("Two", "Three")
        loads = {model.id: model.num_loads for model in found.models}
        assert loads == {"One": 1, "Two": 2, "Three": 1}
