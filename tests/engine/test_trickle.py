"""The pieces that the background gets beside a foreground that does not end."""

import itertools

import pytest
from support.engine_process import generate
from support.lanes import PIPE, Stepped, make_lanes, rows_of

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.engine.pacing import PrefillPacing, Throughput
from mlxnode.engine.trickle import AFTER, MAX_SHARE, MIN_STEPS, Trickle
from mlxnode.engine.work import RequestKey
from mlxnode.messages.data import Embed


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count_steps(trickle: Trickle, count: int) -> None:
    for _ in range(count):
        trickle.count_step()


def test_a_piece_is_due_after_a_time_and_enough_steps(clock):
    trickle = Trickle(clock)
    count_steps(trickle, MIN_STEPS)
    assert not trickle.is_due
    clock.now += AFTER
    assert trickle.is_due
    trickle.reset()
    clock.now += AFTER
    count_steps(trickle, MIN_STEPS - 1)
    assert not trickle.is_due
    trickle.count_step()
    assert trickle.is_due


def test_pieces_take_their_share_of_the_time_however_long_they_are(clock):
    """Steps of 10 ms, and pieces of 1 ms to 2 s."""
    trickle, began = Trickle(clock), clock.now
    lengths = itertools.cycle((0.001, 0.04, 0.3, 2.0))
    num_steps = num_pieces = 0
    seconds = 0.0
    while num_pieces < 40:
        clock.now += 0.01
        num_steps += 1
        trickle.count_step()
        if trickle.is_due:
            num_pieces += 1
            clock.now += (length := next(lengths))
            seconds += length
            trickle.count_piece(length)
    assert num_steps >= MIN_STEPS * num_pieces
    assert seconds <= 1.1 * MAX_SHARE * (clock.now - began)  # the last one is not paid yet
    assert seconds >= 0.8 * MAX_SHARE * (clock.now - began)


def endless(stepped: Stepped, lanes, clock: Clock, until) -> int:
    """Keep the foreground busy until ``until``; returns the steps. A step takes 100 ms."""
    uid, num_steps = 1000, 0
    while not until() and num_steps < 40_000:
        if not lanes.foreground.has_work:
            stepped.send(lanes, generate(uid, max_tokens=400))
            uid += 1
        clock.now += 0.1
        stepped.step()
        num_steps += 1
    return num_steps


def test_a_batch_ends_beside_a_foreground_that_never_does(model, clock):
    stepped = Stepped(lanes := make_lanes(model), trickle=Trickle(clock))
    for uid in range(4):
        stepped.send(lanes, generate(uid, prompt=40, max_tokens=10, background=True))
    num_steps = endless(stepped, lanes, clock, lambda: not lanes.background.has_work)
    assert sorted(uid for uid in stepped.ended if uid < 1000) == [0, 1, 2, 3]
    assert num_steps >= 9 * MIN_STEPS
    mixed = [told for told in stepped.told if len({uid < 1000 for uid in told}) > 1]
    assert not mixed
    assert sum(min(told) < 1000 for told in stepped.told) * MIN_STEPS <= 4 * num_steps
    alone = Stepped(other := make_lanes(model))
    for uid in range(4):
        alone.send(other, generate(uid, prompt=40, max_tokens=10))
    alone.run()
    assert {uid: stepped.tokens[uid] for uid in range(4)} == alone.tokens


def test_a_prompt_gets_one_short_chunk_in_a_piece(model, clock, monkeypatch):
    monkeypatch.setattr(PrefillPacing, "observe_chunk", lambda *_: None)  # 25 tokens a stall
    stepped = Stepped(lanes := make_lanes(model), trickle=Trickle(clock))
    for uid in range(6):
        stepped.send(lanes, generate(uid, prompt=200, max_tokens=3, background=True))
    stepped.send(lanes, generate(1000, max_tokens=400))
    requests = [lanes.background._requests[RequestKey(PIPE, uid)] for uid in range(6)]
    done = [0]
    for _ in range(3 * MIN_STEPS + 10):
        clock.now += 0.1
        stepped.step()
        if (num := sum(request.num_prefilled for request in requests)) > done[-1]:
            done.append(num)
    chunks = [after - before for before, after in itertools.pairwise(done)]
    assert len(chunks) in (2, 3) and max(chunks) <= 40  # and the remainder of one
    assert rows_of(lanes)[0] == 1


def test_a_prompt_of_the_background_goes_on_after_requests_that_come_in_its_midst(
    model, monkeypatch
):
    monkeypatch.setattr(PrefillPacing, "observe_chunk", lambda *_: None)  # 16 tokens a chunk
    stepped = Stepped(lanes := make_lanes(model, prefill_stall_ms=1))
    stepped.send(lanes, generate(0, prompt=400, max_tokens=20, background=True))
    request = lanes.background._requests[RequestKey(PIPE, 0)]
    for uid in range(1, 4):
        before = request.num_prefilled
        stepped.step()
        assert before < (num := request.num_prefilled) <= before + 24
        stepped.send(lanes, generate(uid, prompt=300, max_tokens=5))
        while lanes.foreground.has_work:
            stepped.step()
            assert request.num_prefilled == num
    stepped.run()
    assert stepped.ended == [1, 2, 3, 0]
    alone = Stepped(other := make_lanes(model))
    alone.send(other, generate(0, prompt=400, max_tokens=20))
    alone.run()
    assert stepped.tokens[0] == alone.tokens[0]


def test_models_take_turns_in_the_pieces(model, clock):
    first, second = make_lanes(model), make_lanes(model)
    stepped = Stepped(first, second, trickle=Trickle(clock))
    for uid, lanes in enumerate((first, second)):
        stepped.send(lanes, generate(uid, max_tokens=400, background=True))
    endless(stepped, first, clock, lambda: len(stepped.tokens[1]) >= 5)
    assert len(stepped.tokens[0]) in (5, 6)


def test_an_error_in_the_last_tokens_of_the_background_ends_no_engine(model):
    stepped = Stepped(lanes := make_lanes(model))
    stepped.send(lanes, generate(0, max_tokens=50, background=True))
    stepped.run_until(0, 2)

    def fail() -> None:
        raise RuntimeError("of the device")

    lanes.background._batch.read = fail
    stepped.send(lanes, generate(1, max_tokens=5))
    stepped.step()
    assert stepped.num_failed_steps == 1 and 0 in stepped.failed
    del lanes.background._batch.read
    stepped.send(lanes, generate(2, max_tokens=5))
    stepped.send(lanes, generate(3, max_tokens=5, background=True))
    stepped.run()
    assert stepped.ended[-2:] == [2, 3]


def test_a_brief_batch_of_texts_takes_no_longer_than_a_stall(monkeypatch):
    monkeypatch.setattr(Throughput, "observe", lambda *_: None)  # 25 tokens a stall
    sizes: list[int] = []

    class Model:
        def compute(self, batch):
            sizes.append(len(batch))
            raise RuntimeError("is not computed")

    runner = EmbeddingRunner(Model(), EngineConfig(), is_background=True)
    inputs = [[1, 2, 3, 4, 5]] * 100
    for is_brief in (False, True):
        key = RequestKey(PIPE, len(sizes))
        assert runner.add(key, Embed(uid=key.uid, model="m", inputs=inputs)) is None
        with pytest.raises(RuntimeError):
            list(runner.step(is_brief=is_brief))
        runner.fail()
    assert sizes == [100, 5]
