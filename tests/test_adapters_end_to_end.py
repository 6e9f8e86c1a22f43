"""The whole node with several ids over one base: each answers as its own weights do."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import mlx.core as mx
import pytest
from mlx import nn
from mlx_lm.utils import load_model, quantize_model
from support import tiny
from support.adapters import load_as_mlx_lm, write_adapter
from support.node_process import API_KEY, NodeProcess
from tokenizers import Tokenizer

pytestmark = pytest.mark.slow

PROMPTS = ["The mill", "Where is the library?", "x"]
NUM_TOKENS = 24
IDS = ["base", "lora", "dora", "four-bits", "four-bits-lora"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A base and two adapters, beside the configuration that names them by relative paths."""
    root = tmp_path_factory.mktemp("node")
    base = tiny.make_chat_model(root / "model", hidden=128, layers=3)
    write_adapter(base, root / "lora", seed=1)
    write_adapter(base, root / "dora", seed=2, kind="dora")
    return root


@pytest.fixture(scope="module")
def config() -> str:
    keys = {
        "base": "",
        "lora": 'adapter = "lora"',
        "dora": 'adapter = "dora"',
        "four-bits": "quantize = 4",
        "four-bits-lora": 'quantize = 4\nadapter = "lora"',
    }
    tables = [
        f'[api.models.{id}]\npath = "model"\ntype = "completion"\n{keys[id]}' for id in IDS
    ]
    head = f'[api]\naddress = "127.0.0.1:0"\napi_key = "{API_KEY}"'
    return "\n".join([head, *tables, "[server]\nworkers = 1\n[engine]\nprefix_cache_gb = 0.1"])


@pytest.fixture(scope="module")
def node(root, config):
    with NodeProcess(root, config) as process:
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def expected(root) -> dict[str, nn.Module]:
    """The models as mlx-lm loads them."""
    base, lora, dora = (root / name for name in ("model", "lora", "dora"))
    quantized, _ = quantize_model(load_model(base)[0], {}, 64, 4)
    # mlx-lm loads adapters from a folder that is quantized already.
    (folder := root / "quantized").mkdir()
    quantized.save_weights(str(folder / "model.safetensors"))
    settings = json.loads((base / "config.json").read_text())
    settings["quantization"] = {"group_size": 64, "bits": 4}
    (folder / "config.json").write_text(json.dumps(settings))
    return {
        "base": load_model(base)[0],
        "lora": load_as_mlx_lm(base, lora),
        "dora": load_as_mlx_lm(base, dora),
        "four-bits": quantized,
        "four-bits-lora": load_as_mlx_lm(folder, lora),
    }


def complete(node: NodeProcess, id: str, prompt: str) -> str:
    body = {"model": id, "prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0}
    headers = {"authorization": f"Bearer {API_KEY}"}
    response = httpx.post(f"{node.url}/v1/completions", json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def greedy(model: nn.Module, tokenizer: Tokenizer, prompt: str) -> str:
    ids = tokenizer.encode(prompt).ids
    answer: list[int] = []
    while len(answer) < NUM_TOKENS:
        token = int(model(mx.array([ids + answer]))[0, -1].argmax().item())
        if token == tiny.EOS_ID:
            break
        answer.append(token)
    return tokenizer.decode(answer).rstrip("\N{REPLACEMENT CHARACTER}")  # a part of a character


def test_each_id_answers_as_mlx_lm_does(node, root, expected):
    tokenizer = Tokenizer.from_file(str(root / "model" / "tokenizer.json"))
    requests = [(id, prompt) for prompt in PROMPTS for id in IDS]
    with ThreadPoolExecutor(len(requests)) as pool:  # all ids at the same time
        answers = list(pool.map(lambda request: complete(node, *request), requests))
    for (id, prompt), answer in zip(requests, answers, strict=True):
        answer = answer.rstrip("\N{REPLACEMENT CHARACTER}")
        assert answer == greedy(expected[id], tokenizer, prompt), (id, prompt)
    assert len(set(answers[: len(IDS)])) == len(IDS)


def test_prefixes_of_one_id_are_not_taken_for_another(node):
    prompt = "A prompt of some length, which all ids get one after the other: " * 3
    first = {id: complete(node, id, prompt) for id in IDS}
    assert {id: complete(node, id, prompt) for id in reversed(IDS)} == first
    assert len(set(first.values())) == len(IDS)


def test_status_counts_the_base_once(node, root):
    address = node.url.removeprefix("http://")
    command = [sys.executable, "-m", "mlxnode", "status", "--json", "--address", address]
    engine = None
    while engine is None:  # until it has reported
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        engine = json.loads(printed)["engine"]
    weights = {model["id"]: model["weight_bytes"] for model in engine["models"]}
    size = (root / "model" / "model.safetensors").stat().st_size
    assert weights["base"] > 0.9 * size
    # Dense again on the CPU, but with other values than the base.
    assert weights["four-bits"] > 0.9 * size
    for id in ("lora", "dora", "four-bits-lora"):
        assert 0 < weights[id] < 0.3 * size


def test_check_names_the_adapter_that_does_not_fit(root, config):
    other = tiny.make_chat_model(root / "other", hidden=64)
    write_adapter(other, root / "wrong")
    file = root / "wrong.toml"
    file.write_text(config.replace('adapter = "dora"', 'adapter = "wrong"'))
    file.chmod(0o600)
    command = [sys.executable, "-m", "mlxnode", "check", "--config", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    printed = result.stdout + result.stderr
    assert "adapter: " in printed and "it was made for another model" in printed
