"""Models are loaded when they are asked for, and leave again; with real tiny models."""

import shutil
from pathlib import Path

import pytest
from support import tiny
from support.engine_process import generate, serve_tiny
from support.residence import PIPE, Residence

from mlxnode.engine.residency import known
from mlxnode.messages.control import Loaded, LoadFailed
from mlxnode.messages.data import Done, Embed, Embedded, Failed, Load, Unload


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    names = ("a", "b", "c")
    chat = {name: tiny.make_chat_model(root / name, seed=i) for i, name in enumerate(names)}
    return chat | {"e": tiny.make_embedding_model(root / "e")}


@pytest.fixture
def lazy(folders):
    """Served models that nothing loads at the start."""

    def serve(name: str, id: str = "", **changes):
        facts = {"preload": False, "size_bytes": 10_000}
        if name == "e":
            facts |= {"type": "embedding", "architecture": "bert", "dimensions": 16}
        folder = changes.pop("path", folders[name])
        return serve_tiny(folder, id or name, **(facts | changes))

    return serve


def embed(uid: int) -> Embed:
    return Embed(uid=uid, model="e", inputs=[[0, 40, 50, 2]])


def test_first_request_loads_its_model_and_the_next_finds_it(lazy):
    engine = Residence(lazy("a"), lazy("e"))
    assert engine.loaded == [] and engine.residency.failed == {}
    assert len(engine.ask(generate(1, model="a"))) == 12
    assert [states.states["a"] for states in engine.states] == ["unloaded", "loading", "loaded"]
    assert len(engine.ask(generate(2, model="a"))) == 12
    assert engine.events.count("loading a") == 1
    assert Loaded("a") in engine.reports
    assert isinstance(engine.ask(embed(3)), Embedded)
    assert engine.loaded == ["a", "e"]
    first, second = engine.residency.figures()
    assert first.num_loads == second.num_loads == 1
    assert first.work.generated_tokens == 24 and second.work.prompt_tokens == 4


def test_lazy_model_answers_as_a_preloaded_one(lazy):
    early = Residence(lazy("a", preload=True))
    assert early.loaded == ["a"]
    late = Residence(lazy("a"))
    assert early.ask(generate(1, model="a")) == late.ask(generate(1, model="a"))


def test_others_get_tokens_between_the_pieces_of_a_load(lazy):
    engine = Residence(lazy("a", preload=True), lazy("b"))
    engine.send(generate(1, model="a", max_tokens=200))
    for _ in range(5):
        engine.round()
    engine.events.clear()
    engine.send(generate(2, model="b"))
    engine.settle()
    start, end = engine.events.index("loading b"), engine.events.index(2)
    during = engine.events[start:end]
    assert during.count("piece") >= 10
    assert during.count(1) >= during.count("piece") - 2  # a token between any two
    assert len(engine.tokens[1]) == 200 and len(engine.tokens[2]) == 12


def test_requests_that_wait_are_bounded_and_run_in_order(lazy):
    engine = Residence(lazy("a"), max_queue_size=2)
    for uid in range(4):
        engine.send(generate(uid, model="a"))
    assert {uid for uid, answer in engine.answers.items()} == {2, 3}
    assert {answer.reason for answer in engine.answers.values()} == {"overloaded"}
    assert engine.residency.figures()[0].work.num_waiting == 2
    engine.settle()
    assert [len(engine.tokens[uid]) for uid in (0, 1)] == [12, 12]


def test_load_ends_before_it_reads_if_all_who_wait_have_left(lazy):
    engine = Residence(lazy("a"))
    engine.send(generate(1, model="a"))
    engine.round()
    engine.abort(1)
    engine.settle()
    assert engine.loaded == [] and engine.state("a") == "unloaded"
    assert engine.residency.figures()[0].num_loads == 0
    engine.send(generate(2, model="a"))
    engine.send(generate(3, model="a"))
    engine.abort(2)
    engine.settle()
    assert 2 not in engine.tokens and len(engine.tokens[3]) == 12


def test_load_and_unload_are_answered_when_they_are_done(lazy):
    engine = Residence(lazy("a"))
    assert engine.ask(Unload(1, "a")) == Done(1)
    assert engine.ask(Load(2, "a", pin=True)) == Done(2)
    assert engine.loaded == ["a"] and engine.residency.states.pinned == ["a"]
    assert engine.ask(Load(3, "a", pin=False)) == Done(3)
    assert engine.residency.states.pinned == []
    engine.send(generate(4, model="a", max_tokens=50))
    engine.round()
    engine.send(Unload(5, "a"))
    engine.send(generate(6, model="a"))  # it comes after, so it loads the model again
    assert engine.state("a") == "unloading" and 5 not in engine.answers
    engine.settle()
    assert engine.answers[5] == Done(5)
    assert engine.events.index(4) < engine.events.index(5) < engine.events.index(6)
    assert len(engine.tokens[4]) == 50 and len(engine.tokens[6]) == 12
    assert engine.residency.figures()[0].num_loads == 2
    unknown = engine.ask(Load(7, "nobody"))
    assert isinstance(unknown, Failed) and unknown.reason == "internal"


def test_unload_of_a_model_that_loads_comes_after_those_who_wait(lazy):
    engine = Residence(lazy("a"))
    engine.send(generate(1, model="a"))
    engine.round()
    engine.send(Unload(2, "a"))
    engine.settle()
    assert len(engine.tokens[1]) == 12 and engine.answers[2] == Done(2)
    assert engine.loaded == []


def test_order_whose_worker_has_left_is_carried_out(lazy):
    engine = Residence(lazy("a"))
    engine.send(Load(1, "a"))
    engine.residency.withdraw_all(PIPE)
    engine.settle()
    assert engine.loaded == ["a"] and engine.answers == {}
    engine.send(generate(2, model="a"))
    engine.send(Unload(3, "a"))
    engine.abort(3)
    engine.settle()
    assert engine.loaded == [] and engine.answers == {}


def test_idle_model_is_unloaded_after_its_time_and_a_pinned_one_is_not(lazy, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    engine = Residence(
        lazy("a", idle_unload=60.0), lazy("b", idle_unload=60.0, is_pinned=True), lazy("c")
    )
    engine.ask(generate(1, model="a"))
    engine.ask(generate(2, model="c"))
    assert engine.loaded == ["a", "b", "c"]
    assert engine.residency.seconds_to_next == 60.0
    now[0] += 59.0
    engine.settle()
    assert engine.loaded == ["a", "b", "c"]
    now[0] += 2.0
    engine.settle()
    assert engine.loaded == ["b", "c"] and engine.residency.seconds_to_next is None
    figures = engine.residency.figures()[0]
    assert figures.state == "unloaded" and figures.weight_bytes == 0
    assert figures.work.generated_tokens == 12 and figures.idle_seconds == 61.0


def test_ids_of_the_same_weights_share_a_runner_at_any_time(lazy):
    engine = Residence(lazy("a", preload=True), lazy("a", "again"))
    weights = engine.residency.memory.weights
    engine.send(generate(1, model="a", max_tokens=30))
    assert len(engine.ask(generate(2, model="again"))) == 12
    assert engine.loaded == ["a", "again"] and "loading again" not in engine.events
    assert engine.residency.memory.weights == weights and len(engine.residency.runners) == 1
    assert engine.ask(Unload(3, "a")) == Done(3)
    assert engine.loaded == ["again"] and engine.residency.memory.weights == weights
    assert len(engine.ask(generate(4, model="a"))) == 12  # it joins the runner again
    for uid, id in ((5, "a"), (6, "again")):
        engine.ask(Unload(uid, id))
    assert engine.residency.runners == [] and engine.residency.memory.weights == 0
    first, second = engine.residency.figures()
    assert first.work.generated_tokens == second.work.generated_tokens == 54
    assert (first.same_as, second.same_as) == (None, "a")


def test_ids_of_the_same_weights_have_the_same_work_also_while_they_wait(lazy):
    engine = Residence(lazy("a"), lazy("b"), lazy("a", "again"))
    for uid, id in enumerate(("a", "again", "again", "b")):
        engine.send(generate(uid, model=id))
    figures = {one.id: one for one in engine.residency.figures()}
    assert {id: one.same_as for id, one in figures.items()} == {
        "a": None,
        "b": None,
        "again": "a",
    }
    waiting = {id: one.work.num_waiting for id, one in figures.items()}
    assert waiting == {"a": 3, "b": 1, "again": 3}
    engine.settle()


@pytest.mark.parametrize("preload", [True, False])
def test_ids_of_the_same_weights_that_are_asked_for_together_share_a_runner(lazy, preload):
    engine = Residence(lazy("a", preload=preload), lazy("a", "again", preload=preload))
    engine.send(Load(1, "a"))
    engine.send(Load(2, "again"))
    engine.settle()
    assert engine.loaded == ["a", "again"] and len(engine.residency.runners) == 1
    first, second = engine.residency.figures()
    assert first.weight_bytes == second.weight_bytes == engine.residency.memory.weights > 0


def test_ids_of_the_same_weights_need_the_same_kv_caches(lazy):
    engine = Residence(lazy("a", preload=True), lazy("a", "again", kv_cache_bits=8))
    refusal = engine.ask(generate(1, model="again"))
    assert refusal.reason == "model" and "kv_cache_bits = 8: a has the same" in refusal.message
    assert engine.loaded == ["a"]


# --- failures ---------------------------------------------------------------------------


def test_failed_load_is_told_and_tried_again_later_or_when_ordered(
    lazy, folders, tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    broken = shutil.copytree(folders["a"], tmp_path / "broken")
    (broken / "model.safetensors").rename(broken / "away")
    engine = Residence(lazy("a", path=broken), lazy("b"))
    first = engine.ask(generate(1, model="a"))
    assert first.reason == "model" and "broken" in first.message
    assert LoadFailed({"a": first.message}) in engine.reports
    (broken / "away").rename(broken / "model.safetensors")
    assert engine.ask(generate(2, model="a")) == replace_uid(first, 2)  # not at once
    assert engine.residency.seconds_to_next == known.RETRY_AFTER
    now[0] += known.RETRY_AFTER
    engine.settle()
    assert engine.reports[-1] == LoadFailed({})
    assert len(engine.ask(generate(3, model="a"))) == 12
    assert engine.ask(Unload(4, "a")) == Done(4)
    (broken / "model.safetensors").rename(broken / "away")
    assert engine.ask(Load(5, "a")).reason == "model"
    (broken / "away").rename(broken / "model.safetensors")
    assert engine.ask(Load(6, "a")) == Done(6)
    assert (
        engine.reports[-1] == LoadFailed({}) and len(engine.ask(generate(7, model="b"))) == 12
    )


def replace_uid(failed: Failed, uid: int) -> Failed:
    return Failed(uid, failed.reason, failed.message)


def test_model_that_fails_at_the_start_stays_failed_until_it_is_ordered(
    lazy, tmp_path, folders
):
    broken = shutil.copytree(folders["a"], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    served = lazy("a", path=broken, preload=True)
    engine = Residence(served, lazy("b", preload=True))
    assert list(engine.residency.failed) == ["a"] and engine.loaded == ["b"]
    assert engine.residency.seconds_to_next is None
    assert engine.ask(generate(1, model="a")).reason == "model"
    shutil.copy(folders["a"] / "model.safetensors", broken)
    assert engine.ask(Load(2, "a")) == Done(2)
    assert engine.residency.failed == {}


# --- models at run time -----------------------------------------------------------------


def test_models_come_and_go_at_run_time(lazy):
    engine = Residence(lazy("a", preload=True), lazy("b"))
    engine.send(generate(1, model="a", max_tokens=60))
    engine.send(generate(2, model="b"))
    for _ in range(3):
        engine.round()
    engine.residency.configure([lazy("c", preload=True)])
    assert engine.residency.find("a") is None
    assert engine.answers[2].reason == "internal"  # it had not begun
    engine.settle()
    assert len(engine.tokens[1]) == 60  # as it has begun
    assert engine.loaded == ["c"] and len(engine.residency.runners) == 1


def test_changed_model_is_replaced_when_its_requests_have_ended(lazy, folders):
    engine = Residence(lazy("a", preload=True))
    before = engine.ask(generate(1, model="a"))
    engine.send(generate(2, model="a", max_tokens=60))
    engine.round()
    other = lazy("a", path=folders["b"])
    engine.residency.configure([other])
    assert engine.state("a") == "loading"
    engine.send(generate(1, model="a"))  # it waits for the new one
    engine.tokens.pop(1)
    engine.settle()
    assert len(engine.tokens[2]) == 60
    assert engine.tokens[1] == Residence(other).ask(generate(1, model="a")) != before
    assert len(engine.residency.runners) == 1


def test_settings_change_without_a_load(lazy):
    engine = Residence(lazy("a", preload=True))
    engine.residency.configure([lazy("a", default_temperature=0.3, is_pinned=True)])
    engine.settle()
    assert engine.loaded == ["a"] and engine.residency.states.pinned == ["a"]
    assert engine.residency.figures()[0].num_loads == 1


def test_model_that_is_gone_while_it_loads_leaves_nothing(lazy):
    engine = Residence(lazy("a"), lazy("b", preload=True))
    engine.send(generate(1, model="a"))
    for _ in range(6):
        engine.round()
    engine.residency.configure([lazy("b", preload=True)])
    engine.settle()
    assert engine.answers[1].reason == "internal" and engine.loaded == ["b"]
    assert engine.reports[-1] == LoadFailed({})  # the supervisor must not blame the model
