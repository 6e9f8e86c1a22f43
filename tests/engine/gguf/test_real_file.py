"""A real file of many kinds of tensors: gemma-3-270m as Q4_K_M."""

import json
import math
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from support.engine_process import serve_tiny
from support.gemma import fetch_gemma
from tokenizers import Tokenizer

from mlxnode.engine.gguf.model import _changes, _names
from mlxnode.engine.loader import load_generation_model
from mlxnode.models.gguf.architectures import ARCHITECTURES
from mlxnode.models.gguf.folder import model_folder

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(600)]

TEXT = (Path(__file__).parents[3] / "LICENSE").read_text(encoding="utf-8")
NUM_TOKENS = 256


@pytest.fixture(scope="module")
def file() -> Path:
    return fetch_gemma()


@pytest.fixture(scope="module")
def model(file) -> nn.Module:
    return load_generation_model(serve_tiny(model_folder(file), weights=file))


@pytest.fixture(scope="module")
def values(file, model) -> dict[str, tuple[str, np.ndarray]]:
    """The kind of each parameter of the model, and its values as gguf-py decodes them."""
    architecture = ARCHITECTURES["gemma3"]
    config = json.loads((model_folder(file) / "config.json").read_text())
    names = _names(model, "gemma3", architecture, len(model.layers))
    change = _changes(architecture, config)
    found = {}
    for tensor in gguf.GGUFReader(file).tensors:
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        shape = tensor.shape.tolist()[::-1]
        array = change(tensor.name, mx.array(decoded.reshape(shape)))
        found[names[tensor.name]] = (tensor.tensor_type.name, np.array(array))
    return found


def test_tensors_of_a_real_file_have_the_values_of_gguf_py(model, values):
    own = dict(tree_flatten(model.parameters()))
    kinds = set()
    for name, (kind, expected) in values.items():
        kinds.add(kind)
        error = np.linalg.norm(np.array(own[name]) - expected) / np.linalg.norm(expected)
        assert error < (0.006 if kind == "Q6_K" else 1e-6), (name, kind, error)
    assert {"Q4_K", "Q6_K", "Q8_0"} <= kinds


def test_a_real_file_predicts_english_as_its_values_do(file, model, values):
    tokenizer = Tokenizer.from_file(str(model_folder(file) / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids[:NUM_TOKENS]
    found = perplexity(model, ids)
    model.load_weights([(name, mx.array(array)) for name, (_, array) in values.items()], False)
    assert found == pytest.approx(perplexity(model, ids), rel=0.01)
    assert found < 100  # garbage makes the tokens thousands of times less likely


def perplexity(model: nn.Module, ids: list[int]) -> float:
    logits = model(mx.array([ids[:-1]]))[0]
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logprobs, mx.array(ids[1:])[:, None], axis=-1)
    return math.exp(-chosen.mean().item())
