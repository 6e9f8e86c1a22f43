"""What a model needs: the same as the engine's own measure, and no weight is read."""

from dataclasses import replace

import mlx.core as mx
import pytest
from support import tiny
from support.engine_process import serve_tiny

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.fit.served import (
    find_verdict,
    needs_of_served,
    needs_of_served_in_pieces,
    weigh,
)
from mlxnode.engine.kvcache import slots
from mlxnode.engine.kvcache.budget import measure_caches
from mlxnode.engine.loader import load_generation_model
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


def test_a_verdict_lists_the_layers_that_the_heads_do_not_allow_to_quantize(tmp_path):
    narrow = tiny.make_chat_model(tmp_path)  # heads of 8 numbers
    verdict = find_verdict(serve_tiny(narrow), EngineConfig(kv_cache_bits=8), 10**9)
    assert isinstance(verdict, Verdict) and verdict.fits
    assert "quantizes 0 of 2 layers; not 0-1 (head size 8)" in verdict.text
    plain = find_verdict(serve_tiny(narrow), EngineConfig(), 10**9)
    assert isinstance(plain, Verdict)
    assert verdict.needs.kv == plain.needs.kv and "quantizes" not in plain.text


def test_a_verdict_counts_the_bits_of_the_model(folder):
    served = replace(serve_tiny(folder), kv_cache_bits=4)
    needs = needs_of_served(served, EngineConfig(kv_cache_bits=8))
    assert needs.kv == needs_of_served(serve_tiny(folder), EngineConfig(kv_cache_bits=4)).kv
    unquantized = replace(served, kv_cache_bits=0)
    needs = needs_of_served(unquantized, EngineConfig(kv_cache_bits=8))
    assert needs.kv == needs_of_served(serve_tiny(folder), EngineConfig()).kv


def test_weigh_refuses_other_bits_for_the_same_weights(folder):
    models = [
        serve_tiny(folder, "first"),
        replace(serve_tiny(folder, "second"), kv_cache_bits=8),
        replace(serve_tiny(folder, "third"), kv_cache_bits=0),
    ]
    found = weigh(models, EngineConfig())
    assert [verdict.fits for verdict in found.values()] == [True, False, True]
    assert "kv_cache_bits = 8: first has the same weights" in found["second"].text


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
    huge = serve_tiny(folder, size_bytes=3 * 10**9)
    (found,) = weigh([huge], EngineConfig(memory_gb=2.5)).values()
    assert not found.fits and "its weights alone need 3.00 GB" in found.text


def test_needs_are_found_in_pieces(folder):
    """Other models are served between two traces."""
    served, config = serve_tiny(folder), EngineConfig()
    pieces, count = needs_of_served_in_pieces(served, config), 0
    usual = mx.eval, mx.contiguous  # a trace has others
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            assert end.value == needs_of_served(served, config)
            break
        assert (mx.eval, mx.contiguous) == usual
        count += 1
    assert count > 15
