"""Ids with the same base hold its weights once, in whatever order they come and go."""

import gc
import itertools
import os
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from support import tiny
from support.adapters import load_as_mlx_lm, write_adapter
from support.engine_process import serve_tiny
from support.gguf_files import CASES, make_model, write_model

from mlxnode.engine.gguf import model as gguf_model
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.served import ServedModel

PROMPT = mx.array([[5, 7, 20, 13, 42, 3]])
SLACK = 1 << 16  # bytes: MLX may use larger buffers again; the base is a hundred times as large


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), hidden=256, layers=3)


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory) -> dict[str, ServedModel]:
    """A base and two adapters, by id."""
    adapters = tmp_path_factory.mktemp("adapters")
    lora = write_adapter(folder, adapters / "lora", seed=1)
    dora = write_adapter(folder, adapters / "dora", seed=2, kind="dora")
    return {
        "base": serve_tiny(folder, "base"),
        "lora": serve_tiny(folder, "lora", adapter=lora),
        "dora": serve_tiny(folder, "dora", adapter=dora),
    }


def active() -> int:
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()


def own_bytes(served: ServedModel) -> int:
    if served.adapter is None:
        return 0
    arrays = mx.load(str(served.adapter / "adapters.safetensors"))
    return sum(array.nbytes for array in arrays.values())


def weights_of(model: nn.Module) -> int:
    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))


@pytest.mark.long
@pytest.mark.parametrize("order", [*itertools.permutations(("base", "lora", "dora"))])
def test_three_ids_hold_the_base_once_in_any_order(served, order):
    before, bases = active(), BaseWeights()
    loaded = {id: load_generation_model(served[id], bases=bases) for id in order}
    base = weights_of(loaded["base"])
    assert base > 100 * SLACK
    expected = base + sum(own_bytes(served[id]) for id in order)
    assert abs(active() - before - expected) < SLACK
    assert abs(bases.loaded_bytes(served["base"]) - base) < SLACK
    # The one that is loaded last has no weights that only another one holds.
    *others, last = order
    for id in others:
        del loaded[id]
        expected -= own_bytes(served[id])
        assert abs(active() - before - expected) < SLACK
    assert np.isfinite(np.array(loaded[last](PROMPT))).all()
    del loaded
    assert active() - before < SLACK
    assert bases.loaded_bytes(served["base"]) == 0


def test_each_id_computes_what_it_computes_alone(served):
    bases = BaseWeights()
    loaded = {id: load_generation_model(served[id], bases=bases) for id in served}
    alone = {"base": load_generation_model(served["base"])}
    for id in ("lora", "dora"):
        alone[id] = load_as_mlx_lm(served[id].folder, served[id].adapter)
    for id, model in loaded.items():
        np.testing.assert_allclose(model(PROMPT), alone[id](PROMPT), rtol=1e-4, atol=1e-4)
    first, second, third = (np.array(model(PROMPT)) for model in loaded.values())
    assert np.abs(first - second).max() > 0.1 < np.abs(second - third).max()


@pytest.mark.long
def test_a_base_is_loaded_again_after_all_are_gone(served):
    before, bases = active(), BaseWeights()
    for _ in range(3):
        model = load_generation_model(served["lora"], bases=bases)
        again = load_generation_model(served["base"], bases=bases)
        assert bases.loaded_bytes(served["dora"]) > 0
        del model, again
        assert active() - before < SLACK


@pytest.mark.long
def test_a_load_that_fails_keeps_nothing(served, tmp_path):
    broken = shutil.copytree(served["lora"].adapter, tmp_path / "broken")
    (broken / "adapters.safetensors").write_bytes(b"")
    before, bases = active(), BaseWeights()
    with pytest.raises(Exception, match="cannot be read"):
        load_generation_model(serve_tiny(served["lora"].folder, adapter=broken), bases=bases)
    assert active() - before < SLACK and bases.loaded_bytes(served["base"]) == 0


def test_other_bits_and_changed_files_are_another_base(served, tmp_path):
    bases = BaseWeights()
    folder = shutil.copytree(served["base"].folder, tmp_path / "copy")
    model = load_generation_model(serve_tiny(folder), bases=bases)
    assert bases.loaded_bytes(serve_tiny(folder)) == weights_of(model) + private(model)
    assert bases.loaded_bytes(serve_tiny(folder, quantize=4)) == 0
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert bases.loaded_bytes(serve_tiny(link)) > 0
    os.utime(folder / "model.safetensors", (1, 1))
    assert bases.loaded_bytes(serve_tiny(folder)) == 0


def private(model: nn.Module) -> int:
    """The bytes of the arrays that are no parameters."""
    arrays = (array for _, array in tree_flatten(model) if isinstance(array, mx.array))
    return sum(array.nbytes for array in arrays) - weights_of(model)


def test_a_gguf_file_of_a_loaded_base_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    case = CASES["llama-factors"]
    source, config = make_model(case, tmp_path / "source")
    file = write_model(tmp_path / "m.gguf", case, source, config, tmp_path / "source")
    served = serve_tiny(model_folder(file), weights=file)
    bases = BaseWeights()
    first = load_generation_model(served, bases=bases)
    monkeypatch.setattr(gguf_model, "read_arrays", lambda *_: pytest.fail("it is read again"))
    second = load_generation_model(served, bases=bases)
    np.testing.assert_array_equal(first(PROMPT), second(PROMPT))
