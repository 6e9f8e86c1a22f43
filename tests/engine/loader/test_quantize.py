"""Weights that are quantized while they are loaded: as mlx-lm does, in bounded memory."""

import gc
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model
from support import architectures, tiny
from support.engine_process import serve_tiny

from mlxnode.engine import cpu
from mlxnode.engine.embedding.encoders import load_encoder
from mlxnode.engine.loader import load_generation_model, open_generation_model
from mlxnode.errors import ModelError

PROMPT = mx.array([[5, 7, 20, 13, 42, 3]])


@pytest.fixture
def on_gpu(monkeypatch) -> None:
    """The weights stay as they are made, as on a GPU."""
    monkeypatch.setattr(cpu, "is_used", lambda: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), hidden=64)


def load(folder: Path, bits: int, **facts) -> nn.Module:
    return load_generation_model(serve_tiny(folder, quantize=bits, **facts))


def nbytes(model: nn.Module) -> int:
    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantize_gives_the_logits_of_mlx_lm(folder, bits):
    expected, _ = quantize_model(load_model(folder)[0], {}, 64, bits)
    loaded = load(folder, bits)
    np.testing.assert_allclose(loaded(PROMPT), expected(PROMPT), rtol=1e-3, atol=1e-3)
    exact = load_model(folder)[0](PROMPT)
    assert np.abs(np.array(loaded(PROMPT) - exact)).max() > (0.1 if bits == 4 else 0.005)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantize_makes_the_arrays_of_mlx_lm(folder, bits, on_gpu):
    expected, _ = quantize_model(load_model(folder)[0], {}, 64, bits)
    loaded = dict(tree_flatten(load(folder, bits).parameters()))
    arrays = dict(tree_flatten(expected.parameters()))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_quantize_follows_the_wishes_of_the_model(tmp_path, on_gpu):
    """The routers of Qwen's experts have 8 bits."""
    folder = architectures.write_folder("qwen3_moe", tmp_path)
    loaded = load(folder, 4, architecture="qwen3_moe")
    bits = {path: module.bits for path, module in loaded.named_modules() if "scales" in module}
    assert {bits[path] for path in bits if path.endswith("mlp.gate")} == {8}
    assert {bits[path] for path in bits if "switch_mlp" in path or "proj" in path} == {4}


def test_quantize_takes_smaller_groups_and_leaves_layers_that_none_divides(tmp_path, on_gpu):
    # 96 is divided by 32, and 2 * 40 by neither.
    wide = tiny.make_chat_model(tmp_path / "wide", hidden=96)
    sizes = {m.group_size for m in load(wide, 4).modules() if "scales" in m}
    assert sizes == {32, 64}  # its MLP has 192
    narrow = tiny.make_chat_model(tmp_path / "narrow", hidden=80)
    paths = {path for path, m in load(narrow, 4).named_modules() if "scales" in m}
    assert paths == {f"model.layers.{i}.mlp.down_proj" for i in range(2)}  # 160


def test_quantize_reads_one_layer_after_the_other(tmp_path, on_gpu):
    """The files have eight times as much as the quantized weights."""
    folder = tiny.make_chat_model(tmp_path, hidden=256, layers=8)
    largest = max(array.nbytes for array in mx.load(str(folder / "model.safetensors")).values())
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    loaded = load(folder, 4)
    peak = mx.get_peak_memory() - before
    size = nbytes(loaded)
    assert nbytes(load_model(folder, lazy=True)[0]) > 6 * size
    assert size < peak < size + 2 * largest


@pytest.mark.parametrize("quantize", [4, 8])
def test_quantize_refuses_weights_that_are_quantized(tmp_path, quantize):
    folder = architectures.write_folder("llama", tmp_path, quantized=True)
    with pytest.raises(ModelError, match=f"quantize = {quantize}: .* quantized already"):
        load(folder, quantize)


def test_quantize_names_models_that_cannot_be_quantized(tmp_path):
    folder = architectures.write_folder("afm7", tmp_path / "afm7")
    with pytest.raises(ModelError, match="quantize = 4: mlx-lm cannot quantize it: "):
        load(folder, 4, architecture="afm7")
    narrow = tiny.make_chat_model(tmp_path / "narrow", hidden=24)
    with pytest.raises(ModelError, match="no layer has a width that 32 divides"):
        load(narrow, 4)


def test_quantize_evaluates_nothing_before_it_is_asked_for(folder):
    gc.collect()
    before = mx.get_active_memory()
    model = open_generation_model(serve_tiny(folder, quantize=4))
    assert mx.get_active_memory() - before < nbytes(model) / 10


def test_quantize_embedding_decoder(tmp_path):
    folder = architectures.write_folder("qwen3", tmp_path, tie_word_embeddings=True)
    served = serve_tiny(folder, type="embedding", architecture="qwen3", quantize=4)
    expected, _ = quantize_model(load_model(folder)[0], {}, 64, 4)
    lengths = mx.array([PROMPT.shape[1]])
    states = load_encoder(served)(PROMPT, lengths)
    np.testing.assert_allclose(states, expected.model(PROMPT), rtol=1e-3, atol=1e-3)
