"""What a model needs: the same as the engine's own measure, and no weight is read."""

import mlx.core as mx
import pytest
from support import tiny
from support.engine_process import serve_tiny

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.fit.served import find_verdict, needs_of_served, weigh
from mlxnode.engine.kvcache import slots
from mlxnode.engine.kvcache.budget import measure_caches
from mlxnode.engine.loader import load_generation_model
from mlxnode.errors import ModelError
from mlxnode.models import fit
from mlxnode.models.fit import Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), hidden=128, heads=2)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_needs_count_the_kv_cache_as_admission_does(folder, bits):
    served = serve_tiny(folder)
    needs = needs_of_served(served, EngineConfig(kv_cache_bits=bits))
    model = load_generation_model(served)
    measured = measure_caches(model, bits)
    assert [needs.kv.of(n) for n in (1, 128, 512)] == [
        measured.batch(1, n) for n in (1, 128, 512)
    ]


def test_needs_count_the_slots_and_positions_that_a_batch_allocates():
    assert [fit.num_slots(rows) for rows in range(40)] == [*map(slots.num_slots, range(40))]
    kv = fit.KVBytes(0, ((1, 2**62),))
    assert [kv.of(n) for n in range(600)] == [*map(slots.num_positions, range(600))]


def test_needs_read_no_weights(folder):
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    needs = needs_of_served(serve_tiny(folder), EngineConfig())
    assert mx.get_peak_memory() - before < needs.weights / 10


def test_needs_refuse_bits_that_the_heads_do_not_allow(tmp_path):
    narrow = tiny.make_chat_model(tmp_path)  # heads of 8 numbers
    with pytest.raises(ModelError, match="kv_cache_bits = 8 does not fit"):
        find_verdict(serve_tiny(narrow), EngineConfig(kv_cache_bits=8), 10**9)


def test_weigh_counts_the_models_before(folder, tmp_path):
    other = tiny.make_chat_model(tmp_path, hidden=128, heads=2)
    first = serve_tiny(folder, "first", has_configured_context=True)
    verdict = find_verdict(first, EngineConfig(max_batch_size=1), 10**9)
    assert isinstance(verdict, Verdict)
    needs = verdict.needs
    enough = needs.weights
    while needs.planned(1, 512, enough) > enough:
        enough += 10_000
    models = [first, serve_tiny(other, "second", has_configured_context=True)]
    config = EngineConfig(max_batch_size=1, memory_gb=enough / 1e9, buffer_cache_gb=0.0)
    found = weigh(models, config)
    assert [verdict.fits for verdict in found.values()] == [True, False]


def test_weigh_survives_a_model_that_cannot_be_traced(folder, monkeypatch):
    def needs(*_: object) -> None:
        raise ZeroDivisionError("a strange graph")

    monkeypatch.setattr("mlxnode.engine.fit.served.needs_of_served", needs)
    (found,) = weigh([serve_tiny(folder)], EngineConfig()).values()
    assert found.fits and "a strange graph" in found.text
