"""The background of models: what it computes, when, and with whose memory."""

import random

import msgspec
import pytest
from llguidance import LLMatcher
from support.engine_process import generate
from support.lanes import PIPE, Stepped, make_lanes, rows_of

from mlxnode.engine.decode.prompt_lookup import DraftBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.work import RequestKey
from mlxnode.messages.data import Generate, Sampling

FEW = {token: 60.0 for token in range(50, 53)}  # an answer of these comes round again
GRAMMAR = LLMatcher.grammar_from_regex("[a-c]{20,30}x?")


def behind(uid: int, max_tokens: int = 20, **changes) -> Generate:
    return generate(uid, max_tokens=max_tokens, background=True, **changes)


def alone(model, message: Generate, **config) -> list[int]:
    """The tokens of a request that has the model for itself."""
    stepped = Stepped(lanes := make_lanes(model, **config))
    stepped.send(lanes, message)
    stepped.run()
    return stepped.tokens[message.uid]


def test_background_stands_still_while_the_foreground_is_computed_and_goes_on(model):
    stepped = Stepped(lanes := make_lanes(model))
    for uid in range(3):
        stepped.send(lanes, behind(uid))
    stepped.run_until(0, 5)
    stepped.send(lanes, generate(9, max_tokens=12))
    stepped.step()
    before = {uid: len(stepped.tokens[uid]) for uid in range(3)}
    assert rows_of(lanes) == [1, 3]
    while lanes.foreground.has_work:
        stepped.step()
    assert {uid: len(stepped.tokens[uid]) for uid in range(3)} == before
    stepped.run()
    assert stepped.ended[0] == 9
    for uid in range(3):
        assert stepped.tokens[uid] == alone(model, generate(uid, max_tokens=20))


def test_no_step_has_rows_of_both(model):
    """A turn of the engine tells the tokens of one lane, but for those that it reads first."""
    stepped, generator = Stepped(lanes := make_lanes(model, max_batch_size=4)), random.Random(1)
    for uid in range(40):
        is_behind = uid % 3 > 0
        message = behind(uid) if is_behind else generate(uid)
        stepped.send(lanes, message)
        for _ in range(generator.randrange(6)):
            is_foreground = lanes.foreground.has_work
            before = lanes.background.figures()
            stepped.step()
            after = lanes.background.figures()
            if is_foreground:  # the step that was launched before may be read
                assert after.steps <= before.steps + 1
                assert after.prompt_tokens == before.prompt_tokens
    stepped.run()
    assert len(stepped.ended) == 40 and not stepped.failed
    assert all(len({uid % 3 > 0 for uid in told}) == 1 for told in stepped.told)


def test_background_of_one_model_waits_for_the_foreground_of_another(model):
    first, second = make_lanes(model), make_lanes(model)
    stepped = Stepped(first, second)
    stepped.send(first, behind(0, max_tokens=30))
    stepped.run_until(0, 3)
    stepped.send(second, generate(1, max_tokens=10))
    stepped.step()
    count = len(stepped.tokens[0])
    stepped.run_until(1, 10)
    assert len(stepped.tokens[0]) == count
    stepped.run()
    assert stepped.ended == [1, 0]


@pytest.mark.parametrize("drafts", [0, 4])
def test_tokens_of_the_background_do_not_depend_on_what_interrupts_it(
    model, monkeypatch, drafts
):
    """Arrivals at any step, aborts, short memory, and every kind of request."""
    monkeypatch.setattr(DraftBudget, "permits", lambda self, rows: True)
    config = {"max_batch_size": 3, "num_speculative_tokens": drafts, "budget": 700_000}
    stepped, generator = Stepped(lanes := make_lanes(model, **config)), random.Random(2)
    requests = [
        behind(0, 40),
        behind(1, 40, sampling=Sampling(temperature=1.0, seed=3, top_logprobs=2)),
        behind(2, 40, sampling=Sampling(temperature=0.7, seed=4, frequency_penalty=0.5)),
        behind(3, 40, prompt=200),
        behind(4, 40, stop_ids=[2], sampling=Sampling(seed=5, grammar=GRAMMAR)),
        behind(5, 40, prompt=60),
    ]
    if drafts:  # most rows of a batch have to come round again
        few = Sampling(temperature=0.0, logit_bias=FEW)
        requests = [behind(uid, 60, sampling=few) for uid in range(6)]
    for message in requests:
        stepped.send(lanes, message)
    uid, resumed = 100, set()
    while lanes.background.has_work:
        for _ in range(generator.randrange(1, 6)):
            stepped.step()
        requests_now = lanes.background._requests.values()
        resumed |= {request.key for request in requests_now if request.is_resumed}
        if uid < 140:
            stepped.send(lanes, generate(uid, prompt=generator.choice((5, 300)), max_tokens=9))
            if generator.random() < 0.3:
                lanes.abort(RequestKey(PIPE, uid))
            uid += 1
    stepped.run()
    assert not stepped.failed and len(resumed) > 1
    assert drafts == 0 or lanes.background.figures().accepted_tokens > 0
    for message in requests:
        free = {"num_speculative_tokens": drafts}
        assert stepped.tokens[message.uid] == alone(model, message, **free), message.uid


def test_foreground_takes_the_memory_of_the_background_which_goes_on_later(model):
    stepped = Stepped(lanes := make_lanes(model, budget=600_000, prefix_cache_gb=0))
    for uid in range(6):
        stepped.send(lanes, behind(uid, 150, prompt=60))
    stepped.run_until(0, 30)
    rows = rows_of(lanes)[1]
    assert rows > 1
    stepped.send(lanes, generate(9, prompt=300, max_tokens=100))
    stepped.run_until(9, 1)
    assert rows_of(lanes)[0] == 1 and rows_of(lanes)[1] < rows
    while lanes.foreground.has_work:
        stepped.step()
    assert stepped.ended.index(9) == len(stepped.ended) - 1  # it has waited for nobody
    stepped.run()
    for uid in range(6):
        assert stepped.tokens[uid] == alone(model, generate(uid, 60, 150))


def test_background_takes_no_memory_and_no_place_of_the_foreground(model):
    stepped = Stepped(lanes := make_lanes(model, max_batch_size=2, max_queue_size=4))
    stepped.send(lanes, generate(0, max_tokens=40))
    stepped.run_until(0, 1)
    claimed = lanes.foreground._parts.budget.claimed
    for uid in range(1, 5):
        stepped.send(lanes, behind(uid))
    refusal = lanes.add(RequestKey(PIPE, 5), behind(5))
    assert refusal is not None and refusal.reason == "overloaded"
    assert lanes.foreground._parts.budget.claimed == claimed
    for uid in range(10, 14):  # its queue has all its places
        stepped.send(lanes, generate(uid))
    stepped.run()
    assert sorted(stepped.ended) == [0, 1, 2, 3, 4, 10, 11, 12, 13]


def test_rows_that_stand_still_leave_at_once_when_they_are_aborted(model):
    stepped = Stepped(lanes := make_lanes(model, prefix_cache_gb=0))
    for uid in range(2):
        stepped.send(lanes, behind(uid, 50))
    stepped.run_until(1, 3)
    stepped.send(lanes, generate(9, max_tokens=30))
    stepped.run_until(9, 2)
    budget = lanes.background._parts.budget
    assert budget.claimed_by(lanes.background._scheduler) > 0
    for uid in range(2):
        lanes.abort(RequestKey(PIPE, uid))
    assert rows_of(lanes) == [1, 0]
    assert budget.claimed_by(lanes.background._scheduler) == 0
    assert not lanes.background.has_work
    stepped.run()
    assert stepped.ended == [9]


def test_a_step_that_fails_ends_the_requests_of_both(model):
    stepped = Stepped(lanes := make_lanes(model))
    stepped.send(lanes, behind(0))
    stepped.run_until(0, 2)
    stepped.send(lanes, generate(1, max_tokens=30))
    stepped.run_until(1, 2)
    forward = lanes.foreground._batch.forward

    def fail() -> None:
        lanes.foreground._batch.forward = forward
        raise RuntimeError("of the device")

    lanes.foreground._batch.forward = fail
    stepped.step()
    assert stepped.num_failed_steps == 1 and set(stepped.failed) == {0, 1}
    assert not lanes.has_work
    stepped.send(lanes, behind(2))
    stepped.run()
    assert stepped.tokens[2] == alone(model, generate(2, max_tokens=20))


def test_background_does_nothing_while_a_model_is_loaded(model):
    stepped = Stepped(lanes := make_lanes(model))
    stepped.send(lanes, behind(0))
    stepped.run_until(0, 2)
    stepped.step(runs_background=False)
    count = len(stepped.tokens[0])
    for _ in range(3):
        stepped.step(runs_background=False)
    assert len(stepped.tokens[0]) == count and lanes.has_work
    stepped.run()
    assert stepped.ended == [0]


def test_short_memory_ends_requests_of_the_background_first(model):
    stepped = Stepped(lanes := make_lanes(model))
    stepped.send(lanes, behind(0))
    stepped.run_until(0, 2)
    stepped.send(lanes, generate(1, max_tokens=30))
    stepped.run_until(1, 2)
    assert lanes.youngest.key == RequestKey(PIPE, 0)
    lanes.drop_caches()
    assert rows_of(lanes) == [1, 0]  # it waits now, without memory
    stepped.run()
    assert stepped.tokens[0] == alone(model, generate(0, max_tokens=20))


def test_a_smaller_budget_is_taken_from_the_background(model):
    stepped = Stepped(lanes := make_lanes(model, prefix_cache_gb=0))
    for uid in range(4):
        stepped.send(lanes, behind(uid, 100))
    stepped.run_until(3, 3)
    budget, total = lanes.foreground._parts.budget, 10**9
    stepped.step(runs_background=False)
    budget.resize(max(lanes.kv_needed, budget.claimed // 2))
    assert budget.free >= 0 and 0 < rows_of(lanes)[1] < 4
    budget.resize(total)
    stepped.run()
    for uid in range(4):
        assert stepped.tokens[uid] == alone(model, generate(uid, max_tokens=100))


def test_short_memory_takes_rows_that_stand_still_for_another_model(model):
    first, second = make_lanes(model), make_lanes(model)
    stepped = Stepped(first, second)
    stepped.send(first, behind(0))
    stepped.run_until(0, 2)
    first.drop_caches()  # its row is computed
    assert rows_of(first) == [0, 1]
    stepped.send(second, generate(1, max_tokens=30))
    stepped.run_until(1, 2)
    first.drop_caches()
    assert rows_of(first) == [0, 0]
    stepped.run()
    assert stepped.tokens[0] == alone(model, generate(0, max_tokens=20))


def test_prefixes_of_the_background_are_found_on_the_disk_after_a_restart(model, tmp_path):
    """Also those of rows that were given up, and by requests of either lane."""

    def start() -> tuple[Lanes, Stepped]:
        lanes = make_lanes(model, store=PrefixStore(tmp_path, "model", 10**8))
        return lanes, Stepped(lanes)

    lanes, stepped = start()
    stepped.send(lanes, behind(0, 20, prompt=100))
    stepped.run_until(0, 5)
    stepped.send(lanes, generate(1, prompt=30, max_tokens=10))
    stepped.step()
    lanes.background.give_up()
    assert rows_of(lanes)[1] == 0
    while lanes.do_idle_work():  # as at the end of the process
        pass
    tokens = stepped.tokens[0]
    assert 0 < len(tokens) < 20
    lanes.close()

    lanes, stepped = start()
    stepped.send(lanes, behind(2, 20, prompt=100))
    stepped.run()
    assert lanes.figures().cached_tokens == 0  # another prompt
    stepped.send(lanes, msgspec.structs.replace(behind(0, 20, prompt=100), uid=3))
    stepped.run()
    assert (found := lanes.figures().cached_tokens) >= 90
    assert stepped.tokens[3] == alone(model, generate(0, prompt=100, max_tokens=20))
    stepped.send(lanes, msgspec.structs.replace(generate(2, prompt=100), uid=4))
    stepped.run()
    assert lanes.figures().cached_tokens >= found + 90
    lanes.close()


def test_figures_are_of_both(model):
    stepped = Stepped(lanes := make_lanes(model))
    stepped.send(lanes, behind(0, 5))
    stepped.send(lanes, generate(1, max_tokens=5))
    figures = lanes.figures()
    assert (figures.num_waiting, figures.num_background) == (2, 1)
    stepped.run()
    figures = lanes.figures()
    assert figures.generated_tokens == 10 and figures.num_background == 0
    assert figures.step_rows == figures.steps == 8  # the first tokens need no step
    assert figures.prompt_tokens == 20
