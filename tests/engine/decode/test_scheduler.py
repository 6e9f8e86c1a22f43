import pytest

from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.scheduler import (
    MAX_OVERTAKEN,
    MemoryBudget,
    PrefillClock,
    Scheduler,
    Throughput,
)
from mlxnode.messages import Generate, Sampling


def make(uid: int, prompt: int = 10, max_tokens: int = 10) -> Request:
    message = Generate(
        uid=uid,
        model="m",
        prompt=[1] * prompt,
        max_tokens=max_tokens,
        stop_ids=[],
        sampling=Sampling(),
    )
    return Request.of(1, message, random_seed=0)


def make_scheduler(rows: int = 4, queue: int = 8, budget: int = 10**9) -> Scheduler:
    return Scheduler(
        rows, queue, MemoryBudget(budget), batch_bytes=lambda rows, length: rows * length
    )


def prefilling(scheduler: Scheduler) -> list[int]:
    """The uids in the order in which their prompts are processed."""
    order = []
    while (request := scheduler.next_prefill()) is not None:
        order.append(request.key[1])
        scheduler.finish_prefill(request)
    return order


def test_scheduler_admits_as_many_as_there_are_rows():
    scheduler = make_scheduler(rows=2)
    requests = [make(uid) for uid in range(3)]
    for request in requests:
        scheduler.add(request)
    scheduler.admit()
    assert prefilling(scheduler) == [0, 1]
    assert scheduler.num_waiting == 1
    scheduler.release(requests[0])
    scheduler.admit()
    assert prefilling(scheduler) == [2]


def test_scheduler_reserves_rows_padded_to_the_longest():
    # Two rows of 20 fit 60 bytes; beside one of 40 only rows of 40 could run, so none does.
    scheduler = make_scheduler(budget=60)
    for uid, max_tokens in enumerate((10, 10, 30)):
        scheduler.add(make(uid, max_tokens=max_tokens))
    scheduler.admit()
    assert prefilling(scheduler) == [0, 1]
    assert scheduler.num_waiting == 1


def test_scheduler_refuses_what_can_never_fit_and_what_finds_the_queue_full():
    scheduler = make_scheduler(queue=1, budget=100)
    assert scheduler.refusal(make(0, max_tokens=91)).reason == "too_large"
    assert scheduler.refusal(make(1)) is None
    scheduler.add(make(1))
    assert scheduler.refusal(make(2)).reason == "overloaded"


def test_scheduler_prefills_short_prompts_first_but_lets_no_long_one_starve():
    scheduler = make_scheduler(rows=64)
    scheduler.add(make(99, prompt=5000))
    for uid in range(10):
        scheduler.add(make(uid, prompt=5))
    scheduler.admit()
    order = prefilling(scheduler)
    assert order[:MAX_OVERTAKEN] == [0, 1, 2, 3]
    assert order[MAX_OVERTAKEN] == 99


def test_scheduler_discard_gives_memory_back_wherever_the_request_is():
    scheduler = make_scheduler(rows=1, budget=40)
    admitted, waiting = make(0), make(1)
    scheduler.add(admitted)
    scheduler.add(waiting)
    scheduler.admit()
    scheduler.discard(waiting)
    scheduler.discard(admitted)
    assert not scheduler.has_work
    scheduler.add(make(2, max_tokens=30))  # the whole budget
    scheduler.admit()
    assert prefilling(scheduler) == [2]


def test_budget_is_shared_between_owners():
    budget = MemoryBudget(100)
    assert budget.claim("a", 60)
    assert not budget.claim("b", 50)
    assert budget.claim("a", 40)
    assert budget.claim("b", 50)


def test_clock_sizes_chunks_by_the_time_they_take():
    clock = PrefillClock(stall_seconds=0.1)
    for _ in range(50):
        clock.observe_chunk(500, 0.25)  # 2000 tokens a second
    assert clock.chunk_size(num_running=8) == pytest.approx(200, abs=2)
    assert clock.chunk_size(num_running=0) == Throughput.MAX_CHUNK
    for _ in range(50):
        clock.observe_chunk(16, 10.0)
    assert clock.chunk_size(num_running=8) == Throughput.MIN_CHUNK


def test_clock_takes_as_long_as_a_slow_decode_step():
    clock = PrefillClock(stall_seconds=0.1)
    for _ in range(50):
        clock.observe_chunk(100, 0.1)
        clock.observe_step(0.3)
    assert clock.chunk_size(num_running=8) == pytest.approx(300 * clock.OF_A_STEP, abs=3)


def test_clock_gives_more_time_when_many_prompts_wait():
    clock = PrefillClock(stall_seconds=0.1)
    for _ in range(50):
        clock.observe_chunk(100, 0.1)
    sizes = [clock.chunk_size(num_running=4, num_prompts=n) for n in (1, 2, 3, 5, 100)]
    assert sizes == pytest.approx([100, 100, 200, 400, 800], abs=8)
