import random
from collections import Counter

from support.cpu_time import cpu_time

from mlxnode.engine.decode.prefill_order import MAX_OVERTAKEN
from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.scheduler import Scheduler
from mlxnode.engine.fairness import SLOW_SHARE
from mlxnode.engine.kvcache.budget import CacheSizes, MemoryBudget
from mlxnode.engine.work import Owner, RequestKey, in_units
from mlxnode.messages.data import Generate, Sampling


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


def test_scheduler_reports_sizes_that_can_be_read():
    scheduler = make_scheduler(budget=2_500)
    refused = scheduler.refusal(make(0, prompt=10, max_tokens=3_000_000))
    assert "3.00 MB" in refused.message and "2.50 KB" in refused.message
    assert [in_units(size) for size in (0, 12, 10**7, 25 * 10**9)] == [
        "0.00 KB",
        "0.01 KB",
        "10.00 MB",
        "25.00 GB",
    ]


def test_a_key_fills_its_share_of_the_queue_and_no_more():
    scheduler = make_scheduler(rows=1, queue=8)
    uids = iter(range(1000))

    def add(key: str, call: int) -> bool:
        request = owned(next(uids), key, call=call)
        if scheduler.refusal(request) is not None:
            return False
        scheduler.add(request)
        return True

    assert sum(add("a", call=uid + 1) for uid in range(20)) == 8
    assert sum(add("b", call=uid + 1) for uid in range(20)) == 4
    assert sum(add("c", call=uid + 1) for uid in range(20)) == 2
    assert not add("a", call=100)
    # One HTTP request of a key has at most all places, and another one its share beyond.
    scheduler = make_scheduler(rows=1, queue=8)
    assert sum(add("a", call=1) for _ in range(20)) == 8
    assert sum(add("a", call=2) for _ in range(20)) == 4


def test_rows_follow_the_weights_of_the_keys():
    scheduler = make_scheduler(rows=32, queue=10_000)
    uids = iter(range(10**6))
    for _ in range(200):
        scheduler.add(owned(next(uids), "light"))
    scheduler.admit()
    for _ in range(200):
        scheduler.add(owned(next(uids), "heavy", weight=3.0))
    for _ in range(80):  # whoever has run longest ends
        scheduler.finish(admitted(scheduler)[0])
        scheduler.admit()
    keys = Counter(request.owner.key for request in admitted(scheduler))
    assert keys == {"light": 8, "heavy": 24}


def test_one_row_goes_to_the_keys_in_turn_by_what_they_use():
    """Requests of one key are ten times as long: the other key gets ten times as many."""
    scheduler = make_scheduler(rows=1, queue=10_000)
    for uid in range(400):
        scheduler.add(owned(uid, "long", prompt=1000))
        scheduler.add(owned(1000 + uid, "short", prompt=100))
    served = Counter()
    for _ in range(220):
        scheduler.admit()
        [request] = admitted(scheduler)
        request.num_prefilled = len(request.prompt)
        served[request.owner.key] += 1
        scheduler.finish(request)
    assert 18 <= served["long"] <= 22


def test_priorities_come_first_and_the_last_row_is_for_the_others():
    scheduler = make_scheduler(rows=4, queue=100)
    for uid in range(10):
        scheduler.add(owned(uid, "job", priority=5))
        scheduler.add(owned(100 + uid, "chat"))
    scheduler.admit()
    keys = [request.owner.key for request in admitted(scheduler)]
    assert keys == ["chat", "chat", "chat", "job"]


def test_prompts_of_another_priority_are_processed_at_last():
    scheduler = make_scheduler(rows=64, queue=100)
    scheduler.add(owned(0, "job", priority=5))
    for uid in range(1, 40):
        scheduler.add(owned(uid, "chat"))
    scheduler.admit()
    assert prefilling(scheduler).index(0) < SLOW_SHARE * 2


def test_nobody_waits_for_the_longer_prompt_of_another_key_with_the_same_prefix():
    scheduler = make_scheduler()
    long, short = owned(0, "a", prompt=5000), owned(1, "b", prompt=200)
    scheduler.add(long)
    scheduler.admit()
    scheduler.start_prefill(long)
    scheduler.add(short)
    scheduler.admit()
    assert scheduler.next_prefill() in (long, short)
    assert scheduler.next_prefill([long]) is short
    assert scheduler.next_prefill([short]) is long


def test_every_request_of_a_random_load_ends_and_a_key_without_a_row_gets_one_at_once():
    for seed in range(30):
        chance = random.Random(seed)
        scheduler = make_scheduler(rows=chance.choice([2, 5, 8]), queue=10_000)
        waiting = {uid: random_owned(chance, uid) for uid in range(300)}
        unborn = [*waiting.values()]
        while unborn or scheduler.has_work:
            for request in [unborn.pop() for _ in range(min(len(unborn), chance.randrange(4)))]:
                scheduler.add(request)
            scheduler.admit()
            while scheduler.must_displace() and (displaced := scheduler.displace()):
                for request in displaced:
                    request.set_aside()
            check_shares(scheduler)
            for request in admitted(scheduler):
                request.stage = Stage.RUNNING
                request.num_prefilled = len(request.context)
                request.num_sampled += 1
                request.tokens.append(1)
                if len(request.tokens) == request.max_tokens or chance.random() < 0.02:
                    scheduler.finish(request)
                    del waiting[request.key.uid]
            if scheduler.num_waiting and chance.random() < 0.1:
                request = chance.choice(list(scheduler._waiting))
                scheduler.finish(request)
                del waiting[request.key.uid]
        assert not waiting and scheduler._budget.claimed == 0


def check_shares(scheduler: Scheduler) -> None:
    """No key waits without a row while another one of its priority, or a worse one, has two."""
    rows = Counter(request.owner.key for request in admitted(scheduler))
    num_rows = len(admitted(scheduler))
    assert num_rows == scheduler._max_batch_size or not scheduler.num_waiting
    best = min((r.owner.priority for r in scheduler._waiting), default=None)
    for request in scheduler._waiting:
        if request.owner.priority == best and not rows[request.owner.key]:
            held = [r for r in admitted(scheduler) if r.owner.priority >= best]
            assert max(Counter(r.owner.key for r in held).values(), default=1) < 2


def test_ten_thousand_waiting_requests_come_and_go_in_linear_time():
    def seconds(count: int) -> float:
        scheduler = make_scheduler(rows=8, queue=count)
        requests = [owned(uid, "ab"[uid % 2], call=uid % 7) for uid in range(count + 8)]
        random.Random(1).shuffle(requests)
        with cpu_time() as spent:
            for request in requests:
                assert scheduler.refusal(request) is None
                scheduler.add(request)
                scheduler.admit()
            for _ in range(count):
                assert scheduler.refusal(owned(10**6, "a", call=1)) is not None
            random.Random(2).shuffle(requests)
            for request in requests:
                scheduler.finish(request)
                scheduler.admit()
        assert not scheduler.has_work
        return spent.seconds

    seconds(500)  # warm
    assert seconds(10_000) < 60 * max(seconds(1000), 0.005)  # quadratic: 100


def admitted(scheduler: Scheduler) -> list[Request]:
    return list(scheduler._admitted.values())


def owned(uid: int, key: str, prompt: int = 10, max_tokens: int = 10, **owner) -> Request:
    request = make(uid, prompt, max_tokens)
    message = Generate(
        uid=uid,
        model="m",
        prompt=[],
        max_tokens=1,
        stop_ids=[],
        sampling=Sampling(),
        key=key,
        **owner,
    )
    request.owner = Owner.of(request.key, message)
    return request


def random_owned(chance: random.Random, uid: int) -> Request:
    return owned(
        uid,
        chance.choice("aaaaabc"),
        prompt=chance.randint(1, 50),
        max_tokens=chance.randint(1, 20),
        call=chance.randint(0, 3),
        weight=chance.choice([1.0, 2.0]),
        priority=chance.choice([0, 0, 1]),
    )
