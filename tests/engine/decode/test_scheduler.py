from mlxnode.engine.decode.prefill_order import MAX_OVERTAKEN
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.scheduler import Scheduler
from mlxnode.engine.kvcache.budget import CacheSizes, MemoryBudget
from mlxnode.engine.work import RequestKey
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
    return Request.of(RequestKey(1, uid), message, random_seed=0)


class Sizes(CacheSizes):
    """One byte for each token of a batch; nothing in addition."""

    def batch(self, rows, length, held=(0, 0)):
        return rows * length

    def copy(self, rows, length, held=(0, 0)):
        return 0

    def own(self, length):
        return 0


def make_scheduler(rows: int = 4, queue: int = 8, budget: int = 10**9) -> Scheduler:
    return Scheduler(rows, queue, MemoryBudget(budget), Sizes(()))


def prefilling(scheduler: Scheduler) -> list[int]:
    """The uids in the order in which their prompts are processed."""
    order = []
    while (request := scheduler.next_prefill()) is not None:
        order.append(request.key.uid)
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
    scheduler.finish(requests[0])
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


def test_scheduler_finish_releases_memory_in_every_stage():
    scheduler = make_scheduler(rows=1, budget=40)
    admitted, waiting = make(0), make(1)
    scheduler.add(admitted)
    scheduler.add(waiting)
    scheduler.admit()
    scheduler.finish(waiting)
    scheduler.finish(admitted)
    assert not scheduler.has_work
    scheduler.add(make(2, max_tokens=30))  # the whole budget
    scheduler.admit()
    assert prefilling(scheduler) == [2]
