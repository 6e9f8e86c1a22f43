"""A real node in which some models cannot be served: it serves the others and says why."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import numpy as np
import openai
import pytest
from safetensors.numpy import load_file, save_file
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def with_more_layers(folder: Path) -> None:
    rewrite(folder / "config.json", num_hidden_layers=3)


def with_strange_config(folder: Path) -> None:
    rewrite(folder / "config.json", hidden_size="wide")


def of_another_architecture(folder: Path) -> None:
    rewrite(folder / "config.json", model_type="abacus")


def without_template(folder: Path) -> None:
    rewrite(folder / "tokenizer_config.json", chat_template=None)


def with_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 1}')


# How a model is broken, and what the node says about it.
BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (without_weights, r"no \*\.safetensors files"),
    (with_cut_weights, "download it again"),
    (with_more_layers, "cannot load"),
    (with_strange_config, "wide|TypeError|ValueError"),
    (of_another_architecture, "abacus"),
    (without_template, "no chat template"),
    (with_broken_tokenizer, "with_broken_tokenizer"),
]


def table(id: str, path: Path, **keys: object) -> str:
    lines = [f"[api.models.{id}]", f'path = "{path}"', 'type = "chat"']
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in keys.items()), ""])


def config(*tables: str, server: str = "", engine: str = "") -> str:
    api = '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false\n'
    return "\n".join([api, *tables, "[server]\nworkers = 2", server, "[engine]", engine])


def client(node: NodeProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=60)


def ask(node: NodeProcess, model: str) -> object:
    with client(node) as sdk:
        return sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )


def assert_failed(node: NodeProcess, model: str, reason: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(node, model)
    assert (caught.value.status_code, caught.value.code) == (503, "model_failed")
    assert re.search(reason, caught.value.message), caught.value.message


def test_node_serves_one_good_model_beside_all_kinds_of_broken_ones(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    tables, reasons = [table("good", good), table("gone", tmp_path / "nowhere")], {}
    for damage, reason in BROKEN:
        folder = Path(shutil.copytree(good, tmp_path / damage.__name__))
        damage(folder)
        tables.append(table(damage.__name__, folder))
        reasons[damage.__name__] = reason
    # A context that the configuration promises, and that does not fit.
    large = tiny.make_chat_model(tmp_path / "large", context=4_000_000)
    tables.append(table("large", large, context_length=4_000_000))
    reasons |= {"gone": "no such folder", "large": r"does not fit: .* context_length = \d+"}
    with NodeProcess(tmp_path, config(*tables, engine="memory_gb = 0.5")) as node:
        node.wait_ready()
        assert ask(node, "good").choices
        for id, reason in reasons.items():
            assert_failed(node, id, reason)
        with client(node) as sdk:
            listed = {model.id: model for model in sdk.models.list().data}
        assert {id for id, model in listed.items() if model.status == "failed"} == set(reasons)
        assert all(re.search(reasons[id], listed[id].reason) for id in reasons)
        health = httpx.get(f"{node.url}/health")
        assert health.status_code == 200
        assert health.json()["failed_models"] == sorted(reasons)
        wait_for_line(node, "with_broken_tokenizer FAILED")
        text = "".join(node.log)
        assert all(re.search(rf"{id} FAILED: ", text) for id in reasons)
        assert "good fits: 32 rows of 512 tokens" in text


@pytest.mark.long
def test_node_restarts_its_engine_without_a_model_that_is_gone(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    moved = tiny.make_chat_model(tmp_path / "moved", seed=1)
    with NodeProcess(tmp_path, config(table("good", good), table("moved", moved))) as node:
        node.wait_ready()
        assert ask(node, "moved").choices
        moved.rename(tmp_path / "elsewhere")
        os.kill(node.engine_pid(), signal.SIGKILL)
        wait_for_line(node, "api.models.moved cannot be served")
        wait_for_engine(node)
        assert ask(node, "good").choices
        for _ in range(4):  # whichever worker answers
            assert_failed(node, "moved", "moved")
        (tmp_path / "elsewhere").rename(moved)
        os.kill(node.engine_pid(), signal.SIGKILL)
        wait_for_line(node, "api.models.moved is served again")
        wait_for_engine(node)
        assert ask(node, "moved").choices


@pytest.mark.long
def test_node_without_any_model_that_works_ends_and_says_why(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    tables = []
    for damage in (with_cut_weights, with_more_layers):
        damage(folder := Path(shutil.copytree(good, tmp_path / damage.__name__)))
        tables.append(table(damage.__name__, folder))
    with NodeProcess(tmp_path, config(*tables)) as node:
        assert node.process.wait(60) == 1
        wait_for_line(node, "no model can be served")
        text = "".join(node.log)
        assert "download it again" in text and "cannot load" in text and not node.url


@pytest.mark.long
def test_node_that_requires_all_models_ends_with_the_first_that_fails(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    with_more_layers(broken := Path(shutil.copytree(good, tmp_path / "broken")))
    strict = "require_all_models = true"
    tables = (table("good", good), table("broken", broken))
    with NodeProcess(tmp_path, config(*tables, server=strict)) as node:
        assert node.process.wait(60) == 1
        wait_for_line(node, "api.models.broken: cannot load")
        assert not node.url


def with_nan(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][:] = np.nan
    save_file(weights, file, metadata={"format": "mlx"})


@pytest.mark.long
@pytest.mark.timeout(400)
def test_check_deep_says_what_serving_says(tmp_path):
    """Of what a check of the files alone does not see: weights, tokenizers, shared weights."""
    good = tiny.make_chat_model(tmp_path / "good", hidden=128)
    tables = [table("good", good), table("other", good, kv_cache_bits=8)]
    for damage in (with_nan, with_broken_tokenizer):
        damage(folder := Path(shutil.copytree(good, tmp_path / damage.__name__)))
        tables.append(table(damage.__name__, folder))
    text = config(*tables)
    (tmp_path / "config.toml").write_text(text)
    command = [sys.executable, "-m", "mlxnode", "check", "--config", tmp_path / "config.toml"]
    deep = subprocess.run([*command, "--deep"], capture_output=True, text=True, timeout=150)
    shallow = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert deep.returncode == shallow.returncode == 1
    assert shallow.stderr.count("api.models.") == 1  # other bits for the same weights
    with NodeProcess(tmp_path, text) as node:
        node.wait_ready()
        with client(node) as sdk:
            listed = {model.id: model for model in sdk.models.list().data}
    failed = {id: model.reason for id, model in listed.items() if model.status == "failed"}
    assert set(failed) == {"other", "with_nan", "with_broken_tokenizer"}
    assert deep.stderr.count("api.models.") == len(failed)
    for id, reason in failed.items():
        assert f'api.models.{id} (path = "' in deep.stderr and reason in deep.stderr, id


def wait_for_line(node: NodeProcess, text: str) -> None:
    paused = threading.Event()
    for _ in range(3000):
        if any(text in line for line in node.log):
            return
        paused.wait(0.02)
    raise AssertionError("".join(node.log))


def wait_for_engine(node: NodeProcess) -> None:
    """Until every worker that answers is connected with the engine."""
    paused = threading.Event()
    num_healthy = 0
    for _ in range(3000):
        is_healthy = httpx.get(f"{node.url}/health").status_code == 200
        num_healthy = num_healthy + 1 if is_healthy else 0
        if num_healthy == 12:
            return
        paused.wait(0.02)
    raise AssertionError("the engine does not come back")
