import random
from collections import Counter

import pytest
from support.cpu_time import cpu_time

from mlxnode.engine.embedding.queue import EmbeddingQueue
from mlxnode.engine.fairness import SLOW_SHARE
from mlxnode.engine.work import Owner, RequestKey


def text(length: int) -> list[int]:
    return list(range(length))


def vectors_of(batch):
    """A stand-in for a vector that tells which text it belongs to."""
    return [(item.request.key, item.index) for item in batch]


def drain(queue: EmbeddingQueue, max_tokens: int = 64) -> list:
    """The batches, in order, until nothing waits."""
    batches = []
    while batch := queue.next_batch(max_tokens):
        batches.append(batch)
    return batches


def test_queue_returns_vectors_in_input_order():
    queue = EmbeddingQueue()
    lengths = [40, 3, 17, 64, 1, 16, 90]
    queue.add("a", [text(n) for n in lengths], dimensions=8)
    finished = []
    while batch := queue.next_batch(64):
        finished += queue.complete(batch, vectors_of(batch))
    (request,) = finished
    assert request.key == "a"
    assert request.dimensions == 8
    assert request.vectors == [("a", i) for i in range(len(lengths))]
    assert len(queue) == queue.num_tokens == queue.num_requests == 0
    assert queue.next_batch(64) == []


def test_queue_merges_requests_into_one_batch():
    queue = EmbeddingQueue()
    for key in ("a", "b", "c"):
        queue.add(key, [text(5), text(6)])
    (batch,) = drain(queue, 1024)
    assert [item.request.key for item in batch].count("b") == 2
    assert {request.key for request in queue.complete(batch, vectors_of(batch))} == {*"abc"}


def test_queue_budget_counts_padding():
    queue = EmbeddingQueue()
    queue.add("a", [text(16), *[text(9)] * 9])
    assert [len(batch) for batch in drain(queue)] == [4, 6]


def test_next_batch_bound_may_change_between_batches():
    queue = EmbeddingQueue()
    queue.add("a", [text(16)] * 6)
    assert [len(queue.next_batch(bound)) for bound in (32, 1, 1000)] == [2, 1, 3]


def test_queue_serves_a_text_over_the_budget_alone():
    queue = EmbeddingQueue()
    queue.add("a", [text(100), text(100), text(60)])
    assert [[len(item.tokens) for item in batch] for batch in drain(queue)] == [
        [100],
        [100],
        [60],
    ]


def test_queue_keeps_lengths_of_a_batch_alike():
    queue = EmbeddingQueue()
    queue.add("a", [text(512), text(4), text(300), text(10), text(20)])
    batches = [sorted(len(item.tokens) for item in batch) for batch in drain(queue, 4096)]
    assert batches == [[300, 512], [4, 10, 20]]


def test_queue_most_overdue_text_is_always_in_the_next_batch():
    queue = EmbeddingQueue()
    order = random.Random(0)
    for key in range(30):
        queue.add(key, [text(order.randint(1, 200)) for _ in range(order.randint(1, 9))])
    while len(queue):
        [line] = queue._lines.values()
        due = min(item for bucket in line._buckets.values() for item in bucket)
        assert due in queue.next_batch(256)


def test_queue_small_request_overtakes_a_large_one():
    queue = EmbeddingQueue()
    queue.add("large", [text(16)] * 100)
    queue.next_batch(64)
    queue.add("small", [text(16)])
    waits = [any(item.request.key == "small" for item in batch) for batch in drain(queue)]
    assert waits.index(True) <= 1


def test_queue_newcomers_starve_nobody():
    """With more offered than is served, an old request of another length still ends."""
    queue = EmbeddingQueue()
    queue.add("old", [text(200)] * 4)
    for key in range(100):
        for i in range(8):
            queue.add((key, i), [text(16)])
        batch = queue.next_batch(64)
        if any(request.key == "old" for request in queue.complete(batch, vectors_of(batch))):
            break
    # It is owed 4 x 200 tokens, and what came before it fell due as many.
    assert key <= 4 + 800 // 64


def test_abort_removes_waiting_texts():
    queue = EmbeddingQueue()
    queue.add("a", [text(10), text(70)])
    queue.add("b", [text(12)])
    queue.abort("a")
    queue.abort("a")
    queue.abort("unknown")
    assert len(queue) == queue.num_requests == 1
    assert queue.num_tokens == 12
    (batch,) = drain(queue)
    assert vectors_of(batch) == [("b", 0)]


def test_abort_during_the_batch_drops_the_result():
    queue = EmbeddingQueue()
    queue.add("a", [text(10)])
    queue.add("b", [text(10)])
    batch = queue.next_batch(64)
    queue.abort("a")
    queue.add("a", [text(20)])  # the name may be used again
    assert [request.key for request in queue.complete(batch, vectors_of(batch))] == ["b"]
    (again,) = drain(queue)
    assert [request.key for request in queue.complete(again, vectors_of(again))] == ["a"]


def test_fail_drops_the_requests_of_the_batch_alone():
    queue = EmbeddingQueue()
    queue.add("a", [text(10), text(70)])
    queue.add("b", [text(12)])
    queue.add("c", [text(100)])
    batch = queue.next_batch(64)
    assert {request.key for request in queue.fail(batch)} == {"a", "b"}
    assert len(queue) == 1
    assert queue.num_tokens == 100
    assert vectors_of(queue.next_batch(64)) == [("c", 0)]


@pytest.mark.parametrize("inputs", [[], [[1]]])
def test_add_refuses_empty_and_duplicate_requests(inputs):
    queue = EmbeddingQueue()
    queue.add("a", [[1]])
    with pytest.raises(ValueError, match="'a'" if inputs else "'b'"):
        queue.add("a" if inputs else "b", inputs)


def test_queue_counts_agree_over_random_operations():
    order = random.Random(1)
    queue = EmbeddingQueue()
    waiting: dict[int, int] = {}  # inputs not yet vectors, by request
    done = 0
    for key in range(400):
        lengths = [order.randint(1, 120) for _ in range(order.randint(1, 12))]
        queue.add(key, [text(n) for n in lengths])
        waiting[key] = len(lengths)
        if order.random() < 0.2:
            aborted = order.choice(list(waiting))
            queue.abort(aborted)
            del waiting[aborted]
        batch = queue.next_batch(200)
        longest = max(len(item.tokens) for item in batch)
        assert longest * len(batch) <= 200 or len(batch) == 1
        assert longest <= 2 * max(16, min(len(item.tokens) for item in batch))
        for request in queue.complete(batch, vectors_of(batch)):
            assert request.vectors == [
                (request.key, i) for i in range(waiting.pop(request.key))
            ]
            done += 1
        items = [
            item
            for line in queue._lines.values()
            for bucket in line._buckets.values()
            for item in bucket
            if not item.request.is_dropped
        ]
        assert len(queue) == len(items)
        assert queue.num_tokens == sum(len(item.tokens) for item in items)
    assert done > 50


def owner(key: str, weight: float = 1.0, priority: int = 0) -> Owner:
    return Owner(key, weight, priority, (0, 0))


def test_a_key_does_not_wait_for_the_many_requests_of_another():
    queue = EmbeddingQueue()
    for uid in range(500):
        queue.add(RequestKey(1, uid), [text(16)] * 8, owner=owner("flood"))
    for _ in range(3):
        queue.next_batch(64)
    queue.add(RequestKey(2, 0), [text(16)], owner=owner("other"))
    batches = [queue.next_batch(64) for _ in range(2)]
    assert any(item.request.key == (2, 0) for batch in batches for item in batch)


def test_two_keys_get_as_many_tokens_as_their_weights_say():
    queue = EmbeddingQueue()
    for uid in range(100):
        queue.add(RequestKey(1, uid), [text(16)] * 8, owner=owner("one"))
        queue.add(RequestKey(2, uid), [text(30)] * 8, owner=owner("two", weight=3.0))
    tokens = Counter()
    for _ in range(120):
        for item in queue.next_batch(64):
            tokens[item.request.owner.key] += len(item.tokens)
    assert 2.7 < tokens["two"] / tokens["one"] < 3.3


def test_what_a_key_leaves_of_a_batch_is_filled_by_the_others():
    queue = EmbeddingQueue()
    for key in "abcd":
        queue.add(RequestKey(0, ord(key)), [text(16)], owner=owner(key))
    assert len(queue.next_batch(64)) == 4


def test_a_better_priority_comes_first_and_the_worse_one_still_ends():
    queue = EmbeddingQueue()
    queue.add(RequestKey(1, 0), [text(16)] * 4, owner=owner("job", priority=10))
    for uid in range(100):
        queue.add(RequestKey(2, uid), [text(16)] * 4, owner=owner("chat"))
    keys = [queue.next_batch(64)[0].request.owner.key for _ in range(2 * SLOW_SHARE)]
    assert keys.count("job") == 1
    assert keys[0] == "chat"


def test_a_key_has_its_share_of_the_places():
    queue = EmbeddingQueue()
    for uid in range(8):
        assert not queue.is_full_for("a", 8)
        queue.add(RequestKey(1, uid), [text(4)], owner=owner("a"))
    assert queue.is_full_for("a", 8)
    for uid in range(4):
        assert not queue.is_full_for("b", 8)
        queue.add(RequestKey(2, uid), [text(4)], owner=owner("b"))
    assert queue.is_full_for("b", 8)


def test_many_aborts_of_large_requests_take_linear_time_and_leave_nothing():
    def seconds(count: int) -> float:
        queue = EmbeddingQueue()
        queue.add(RequestKey(0, 0), [text(4)], owner=owner("a"))
        for uid in range(count):
            queue.add(
                RequestKey(1, uid), [text(1 + n % 9) for n in range(200)], owner=owner("a")
            )
        with cpu_time() as spent:
            for uid in range(count):
                queue.abort(RequestKey(1, uid))
        [line] = queue._lines.values()
        kept = sum(len(bucket) for bucket in line._buckets.values())
        assert len(queue) == 1 and queue.num_tokens == 4 and kept < 5000
        return spent.seconds

    seconds(20)  # warm
    # Quadratic work would take 100 times as long; caches of the processor, 40 times.
    assert seconds(400) < 60 * max(seconds(40), 0.002)
