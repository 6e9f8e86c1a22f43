"""The part of a model that another rank loads: where it finds the files, what it refuses."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from support import tiny

from mlxnode.config.tables import EngineConfig, ModelConfig
from mlxnode.engine.loader import split
from mlxnode.engine.ranks.part import found_here, load_part
from mlxnode.errors import ModelError
from mlxnode.messages.ranks import LoadPart
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles
from mlxnode.models.fingerprints import fingerprints


def order_of(folder: Path, home: str = "/nobody") -> LoadPart:
    served = describe(
        "m", ModelConfig(path=str(folder), type="chat"), ModelFiles(folder, folder)
    )
    return LoadPart(1, served, "none", fingerprints(folder), home)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.make_chat_model(tmp_path / "home-of-rank-0" / "models" / "tiny")


def test_the_model_is_found_below_the_home_folder_of_this_user(folder, tmp_path, monkeypatch):
    order = order_of(folder, str(tmp_path / "home-of-rank-0"))
    assert found_here(order).weights == folder
    (tmp_path / "home-of-rank-0").rename(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    assert found_here(order).folder == tmp_path / "mine" / "models" / "tiny"


def test_a_model_that_is_missing_or_differs_is_refused_by_name(folder):
    order = order_of(folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(ModelError, match=r"not the files of rank 0: config\.json"):
        found_here(order)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"config\.json, model\.safetensors"):
        found_here(order)
    folder.rename(folder.with_name("other"))
    with pytest.raises(ModelError, match=r"there is no .*tiny; copy the model"):
        found_here(order)


def test_a_part_says_what_it_leaves_for_kv_caches(folder):
    part = load_part(order_of(folder), EngineConfig(), weights=0)
    assert part.needs.weights == sum(a.nbytes for a in _arrays(part.model))
    assert 0 < part.kv_token < part.kv_budget
    less = load_part(order_of(folder), EngineConfig(), weights=10**6)
    assert less.kv_budget == part.kv_budget - 10**6


def test_a_part_that_does_not_fit_is_refused(folder):
    settings = EngineConfig(memory_gb=0.001, buffer_cache_gb=0.0)
    with pytest.raises(ModelError, match=r"its part needs .* GB, .* GB are free there"):
        load_part(order_of(folder), settings, weights=999_000)


@pytest.fixture
def two():
    with split.imagined(2, "tensor"):
        yield


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("pipeline", 'cannot spread llama with strategy = "pipeline"; use "tensor" or "none"'),
        ("tensor", r"its 3 heads \(num_key_value_heads\) cannot be shared by 2 ranks"),
    ],
)
def test_what_mlx_lm_cannot_do_is_refused_by_name(tmp_path, two, strategy, message):
    folder = tiny.make_chat_model(tmp_path / "m", hidden=48, heads=6, kv_heads=3)
    order = order_of(folder)
    with pytest.raises(ModelError, match=message):
        load_part(replace_strategy(order, strategy), EngineConfig(), 0)


def replace_strategy(order: LoadPart, strategy: str) -> LoadPart:
    model = replace(order.model, strategy=strategy)
    return LoadPart(order.handle, model, strategy, order.files, order.home)


def test_a_part_is_smaller_than_the_model(folder, two):
    part = load_part(replace_strategy(order_of(folder), "tensor"), EngineConfig(), 0)
    split.use(None)
    whole = load_part(order_of(folder), EngineConfig(), 0)
    assert part.needs.weights < whole.needs.weights
    assert part.kv_token == whole.kv_token // 2
    assert split.is_spread(part.model) and not split.is_spread(whole.model)


def test_an_adapter_stays_on_one_machine(folder, two):
    served = replace(order_of(folder).model, adapter=folder)
    model = load_part(order_of(folder), EngineConfig(), 0).model
    assert split.choose(served, model, "tensor") == "none"
    with pytest.raises(ModelError, match="does not go with an adapter"):
        split.choose(replace(served, strategy="tensor"), model, "tensor")


def _arrays(model) -> list[mx.array]:
    from mlx.utils import tree_flatten

    return [array for _, array in tree_flatten(model.parameters())]
