"""Who makes room for a model, in a memory of a few models; with real models of 7 MB each.

A loaded one takes 17.5 MB with its passes; one that is to be loaded needs 22 MB, with the KV
cache of a request.
"""

from pathlib import Path

import pytest
from support import tiny
from support.engine_process import generate, serve_tiny
from support.residence import Residence

from mlxnode.engine.residency import known
from mlxnode.engine.residency.queue import POSTPONED
from mlxnode.messages.data import Failed, Generate, Load, Unload

ONE, JUST_TWO, TWO = 0.026, 0.041, 0.044  # GB, for as many models


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        name: tiny.make_chat_model(root / name, hidden=256, layers=3, seed=i)
        for i, name in enumerate("abc")
    }


@pytest.fixture
def start(folders):
    """A residence with lazily loaded models; ``pinned`` and ``preload`` name others."""

    def start(memory_gb: float, pinned: str = "", preload: str = "") -> Residence:
        models = [
            serve_tiny(folder, name, preload=name in preload, is_pinned=name in pinned)
            for name, folder in folders.items()
        ]
        settings = {"max_batch_size": 2, "num_speculative_tokens": 0, "buffer_cache_gb": 0.0}
        return Residence(*models, memory_gb=memory_gb, **settings)

    return start


def ask(engine: Residence, uid: int, model: str) -> None:
    assert len(engine.ask(generate(uid, model=model))) == 12


def test_least_recently_used_model_makes_room(start):
    engine = start(TWO)
    for uid, model in enumerate("abac"):
        ask(engine, uid, model)
    assert engine.loaded == ["a", "c"]
    assert [figures.num_loads for figures in engine.residency.figures()] == [1, 1, 1]
    ask(engine, 10, "b")
    assert engine.loaded == ["b", "c"]


@pytest.mark.long
def test_pinned_model_stays(start):
    engine = start(TWO, pinned="a")
    assert engine.loaded == ["a"]
    for uid, model in enumerate("bcb"):
        ask(engine, uid, model)
        assert engine.loaded == sorted(["a", model])


@pytest.mark.long
def test_model_that_does_not_fit_beside_the_pinned_ones_fails_with_the_numbers(start):
    engine = start(ONE, pinned="a")
    refusal = engine.ask(generate(1, model="b"))
    assert refusal.reason == "model" and engine.loaded == ["a"]
    assert "does not fit: one request of 512 tokens needs" in refusal.message
    assert "0.01 GB are free" in refusal.message
    assert engine.ask(Load(2, "a", pin=False)).uid == 2
    assert engine.ask(Load(3, "b")).uid == 3  # an order tries it at once
    assert engine.loaded == ["b"]


def test_model_that_does_not_fit_alone_fails_at_the_start(start):
    engine = start(0.012, preload="a")
    assert list(engine.residency.failed) == ["a"]
    assert isinstance(engine.ask(generate(1, model="b")), Failed)


def test_preloaded_model_without_room_waits_for_its_first_request(start):
    engine = start(TWO, preload="abc")
    assert engine.loaded == ["a", "b"] and engine.residency.failed == {}
    assert any("c is loaded when it is asked for: beside the" in line for line in engine.lines)
    assert engine.state("c") == "unloaded"
    ask(engine, 1, "b")
    ask(engine, 2, "c")
    assert engine.loaded == ["b", "c"]


def test_pinned_models_are_loaded_first(start):
    engine = start(TWO, preload="ab", pinned="c")
    assert engine.loaded == ["a", "c"]


def test_busy_models_end_their_requests_and_take_no_new_ones(start):
    engine = start(ONE)
    engine.send(generate(1, model="a", max_tokens=300))
    while len(engine.tokens.get(1, ())) < 2:
        engine.round()
    engine.send(generate(2, model="b"))
    while engine.state("a") == "loaded":  # what b needs is found in pieces
        engine.round()
    assert engine.state("a") == "unloading" and engine.state("b") == "loading"
    engine.send(generate(3, model="a"))
    engine.settle()
    assert [len(engine.tokens[uid]) for uid in (1, 2, 3)] == [300, 12, 12]
    places = {uid: len(engine.events) - engine.events[::-1].index(uid) for uid in (1, 2, 3)}
    assert places[1] < places[2] < places[3]
    assert engine.loaded == ["a"] and engine.residency.figures()[0].num_loads == 2


def test_models_take_turns_when_both_are_always_asked_for(start):
    engine = start(ONE)
    for uid in range(12):
        engine.send(generate(uid, model="ab"[uid % 2], max_tokens=20))
        for _ in range(3):
            engine.round()
    engine.settle()
    assert all(len(engine.tokens[uid]) == 20 for uid in range(12))


def test_pinned_model_that_is_busy_pauses_and_stays(start):
    engine = start(JUST_TWO, pinned="a")
    engine.send(generate(1, model="a", max_tokens=400))
    for _ in range(20):
        engine.round()
    engine.send(generate(2, model="b"))
    for _ in range(5):
        engine.round()
    engine.send(generate(3, model="a"))
    assert engine.state("a") == "loaded" and 2 not in engine.tokens
    engine.settle()
    assert [len(engine.tokens[uid]) for uid in (1, 2, 3)] == [400, 12, 12]
    assert engine.events.index("loading b") < engine.events.index(3)
    assert engine.loaded == ["a", "b"] and engine.residency.figures()[0].num_loads == 1


def test_who_was_to_make_room_goes_on_when_nobody_waits_any_more(start):
    engine = start(ONE)
    engine.send(generate(1, model="a", max_tokens=300))
    engine.round()
    engine.send(generate(2, model="b"))
    for _ in range(5):
        engine.round()
    engine.send(generate(3, model="a"))
    engine.abort(2)
    engine.settle()
    assert [len(engine.tokens[uid]) for uid in (1, 3)] == [300, 12]
    assert engine.loaded == ["a"] and engine.residency.figures()[0].num_loads == 1


def test_kv_caches_get_what_the_loaded_models_leave(start):
    engine = start(TWO)
    budget = engine.residency.memory.budget
    ask(engine, 1, "a")
    alone = budget.total
    assert budget.claimed > 0  # a prefix
    ask(engine, 2, "b")
    assert budget.claimed <= budget.total < alone - 10_000_000
    assert engine.weights == [0, 7350272, 2 * 7350272]
    engine.residency.configure([])
    engine.settle()
    assert engine.residency.runners == [] and engine.weights[-1] == 0
    assert budget.claimed == 0 and budget.evictors == []
    assert budget.total == 44_000_000


def test_request_that_runs_keeps_the_memory_it_was_promised(start):
    engine = start(TWO)
    budget = engine.residency.memory.budget
    engine.send(generate(1, model="a", prompt=100, max_tokens=400))
    for _ in range(30):
        engine.round()
    needed = engine.residency.runners[0].kv_needed
    assert needed >= budget.claimed > 0
    engine.send(generate(2, model="b"))
    while engine.round():
        running = engine.residency.runners[0].kv_needed
        assert budget.total >= running
    assert len(engine.tokens[1]) == 400


def behind(uid: int, model: str, **changes) -> Generate:
    return generate(uid, model=model, background=True, **changes)


def test_load_for_the_background_unloads_no_model_that_was_used_lately(start, monkeypatch):
    engine = start(ONE)
    ask(engine, 1, "a")
    engine.send(behind(2, "b"))
    engine.settle()
    assert engine.loaded == ["a"] and 2 not in engine.tokens
    assert 0 < engine.residency.seconds_to_next <= POSTPONED
    monkeypatch.setattr(known, "BACKGROUND_IDLE", 0.0)
    engine.residency.find("b").postponed_until = 0.0
    engine.settle()
    assert engine.loaded == ["b"] and len(engine.tokens[2]) == 12


def test_load_for_the_background_does_not_keep_others_from_theirs(start):
    engine = start(ONE)
    ask(engine, 1, "a")
    engine.send(behind(2, "b"))
    engine.settle()
    ask(engine, 3, "c")
    assert engine.loaded == ["c"]
    ask(engine, 4, "b")  # somebody waits for it now
    assert len(engine.tokens[2]) == 12


def test_model_that_makes_room_gives_its_background_back(start):
    engine = start(ONE)
    engine.send(behind(1, "a", max_tokens=400))
    while len(engine.tokens.get(1, ())) < 2:
        engine.round()
    ask(engine, 2, "b")
    assert engine.loaded == ["b"]
    assert engine.answers[1].reason == "overloaded" and len(engine.tokens[1]) < 400


def test_order_to_unload_does_not_wait_for_the_background(start):
    engine = start(ONE)
    engine.send(behind(1, "a", max_tokens=400))
    while len(engine.tokens.get(1, ())) < 2:
        engine.round()
    assert engine.ask(Unload(2, "a")).uid == 2
    assert engine.loaded == [] and engine.answers[1].reason == "overloaded"


def test_load_for_the_background_waits_while_the_foreground_is_computed(start):
    engine = start(TWO)
    engine.send(generate(1, model="a", max_tokens=300))
    while len(engine.tokens.get(1, ())) < 2:
        engine.round()
    engine.send(behind(2, "b"))
    at = len(engine.events)
    engine.settle()
    assert "piece" not in engine.events[at : len(engine.events) - engine.events[::-1].index(1)]
    assert len(engine.tokens[2]) == 12 and engine.loaded == ["a", "b"]
