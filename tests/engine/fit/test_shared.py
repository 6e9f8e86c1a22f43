"""Verdicts on ids that share a base, and on weights that are quantized on load."""

from dataclasses import replace

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from support import architectures, tiny
from support.adapters import write_adapter
from support.engine_process import serve_tiny

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.fit.served import find_verdict, needs_of_served, weigh
from mlxnode.engine.loader import load_generation_model
from mlxnode.models.fit import Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), hidden=128, heads=2)


@pytest.fixture(scope="module")
def adapters(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    kinds = ("lora", "dora")
    return [write_adapter(folder, root / kind, kind=kind) for kind in kinds]


def loaded_bytes(served) -> int:
    parameters = load_generation_model(served).parameters()
    return sum(array.nbytes for _, array in tree_flatten(parameters))


def test_needs_count_the_adapter(folder, adapters):
    for adapter in adapters:
        served = serve_tiny(folder, adapter=adapter)
        needs = needs_of_served(served, EngineConfig())
        assert needs.weights == loaded_bytes(served) > loaded_bytes(serve_tiny(folder))


def test_needs_of_dora_are_those_of_lora(folder, adapters):
    """mlx-lm's own layers compute with whole weights in each step."""
    lora, dora = (
        needs_of_served(serve_tiny(folder, adapter=adapter), EngineConfig()).activations[0]
        for adapter in adapters
    )
    assert dora.decode < 1.2 * lora.decode


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("is_on_cpu", [True, False])
def test_needs_count_the_quantized_weights(folder, monkeypatch, bits, is_on_cpu):
    if not is_on_cpu:
        monkeypatch.setattr(cpu, "is_used", lambda: False)
    served = serve_tiny(folder, quantize=bits)
    needs = needs_of_served(served, EngineConfig())
    assert needs.weights == loaded_bytes(served)
    dense = needs_of_served(serve_tiny(folder), EngineConfig()).weights
    assert (
        needs.weights == dense if is_on_cpu else needs.weights < dense / (6 if bits == 4 else 3)
    )
    assert needs.load == max(  # one layer is read beside the weights
        array.nbytes for array in mx.load(str(folder / "model.safetensors")).values()
    )
    assert f"quantized to {bits} bits" in needs.note


def test_a_verdict_counts_shared_weights_once(folder, adapters):
    served = serve_tiny(folder, adapter=adapters[0])
    base = needs_of_served(serve_tiny(folder), EngineConfig()).weights
    alone = find_verdict(served, EngineConfig(), 10**9)
    shared = find_verdict(served, EngineConfig(), 10**9, base)
    assert isinstance(alone, Verdict) and isinstance(shared, Verdict)
    assert alone.needs.weights - shared.needs.weights == base
    assert "shares 0.00 GB of weights with other models" in shared.text
    assert "shares" not in alone.text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_weigh_counts_a_base_once(folder, adapters, order):
    """Memory for the base and one request of each id, but not for the base twice."""
    first, second = adapters
    models = [
        serve_tiny(folder, "base"),
        serve_tiny(folder, "first", adapter=first),
        serve_tiny(folder, "second", adapter=second),
    ]
    models = [replace(models[at], has_configured_context=True) for at in order]
    config = EngineConfig(max_batch_size=1)
    needs = {model.id: needs_of_served(model, config) for model in models}
    base = needs["base"].weights
    enough = max(need.weights for need in needs.values())
    while any(need.planned(1, 512, enough) > enough for need in needs.values()):
        enough += 10_000
    enough += sum(need.weights - base for need in needs.values())
    config = EngineConfig(max_batch_size=1, memory_gb=enough / 1e9, buffer_cache_gb=0.0)
    assert [verdict.fits for verdict in weigh(models, config).values()] == [True] * 3
    copies = [serve_tiny(folder, "base"), serve_tiny(folder, "quantized", quantize=4)]
    copies = [replace(model, has_configured_context=True) for model in copies]
    assert [verdict.fits for verdict in weigh(copies, config).values()] == [True, False]


def test_weigh_says_that_ids_share_everything(folder, adapters):
    served = serve_tiny(folder, "first", adapter=adapters[0])
    found = weigh([served, replace(served, id="second")], EngineConfig())
    assert found["second"].text == "shares the weights of first"


def test_weigh_refuses_an_adapter_that_does_not_fit_the_base(folder, tmp_path):
    other = architectures.write_folder("qwen3", tmp_path / "other")
    adapter = write_adapter(other, tmp_path / "adapter")
    found = weigh([serve_tiny(folder, "mine", adapter=adapter)], EngineConfig())["mine"]
    assert not found.fits and found.text.startswith("adapter: ")
