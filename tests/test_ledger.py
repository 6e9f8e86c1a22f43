"""Token buckets on a clock that the test turns."""

import pytest

from mlxnode.ledger import Ledger

HOLDER = ("worker 0", 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_ledger_admits_exactly_the_limit(clock):
    ledger = Ledger(60, None, clock)
    answers = [ledger.reserve(HOLDER, ticket, "key", 10) for ticket in range(65)]
    assert [answer.refused for answer in answers] == [None] * 60 + ["requests"] * 5
    assert answers[0].requests.remaining == 59
    assert answers[-1].requests.remaining == 0
    assert answers[-1].tokens is None


def test_ledger_refills_by_a_sixtieth_of_the_limit_a_second(clock):
    ledger = Ledger(60, None, clock)
    for ticket in range(60):
        ledger.reserve(HOLDER, ticket, "key", 1)
    refused = ledger.reserve(HOLDER, 60, "key", 1)
    assert refused.retry_after == pytest.approx(1.0)
    assert refused.requests.reset == pytest.approx(60.0)
    clock.now += 0.99
    assert ledger.reserve(HOLDER, 61, "key", 1).refused == "requests"
    clock.now += 0.01
    assert ledger.reserve(HOLDER, 62, "key", 1).refused is None
    clock.now += 3600
    assert ledger.reserve(HOLDER, 63, "key", 1).requests.remaining == 59


def test_ledger_keeps_keys_apart(clock):
    ledger = Ledger(1, None, clock)
    assert ledger.reserve(HOLDER, 1, "a", 1).refused is None
    assert ledger.reserve(HOLDER, 2, "b", 1).refused is None
    assert ledger.reserve(HOLDER, 3, "a", 1).refused == "requests"


def test_ledger_settles_to_what_was_used_and_only_once(clock):
    ledger = Ledger(None, 1000, clock)
    assert ledger.reserve(HOLDER, 1, "key", 900).tokens.remaining == 100
    assert ledger.reserve(HOLDER, 2, "key", 200).refused == "tokens"
    ledger.settle(HOLDER, 1, 100)
    ledger.settle(HOLDER, 1, 0)
    assert ledger.reserve(HOLDER, 3, "key", 900).tokens.remaining == 0


def test_ledger_charges_what_exceeds_the_reservation(clock):
    ledger = Ledger(None, 1000, clock)
    ledger.reserve(HOLDER, 1, "key", 100)
    ledger.settle(HOLDER, 1, 400)
    assert ledger.reserve(HOLDER, 2, "key", 600).tokens.remaining == 0


def test_ledger_takes_nothing_for_a_refused_request(clock):
    ledger = Ledger(10, 100, clock)
    refused = ledger.reserve(HOLDER, 1, "key", 101)
    assert refused.refused == "tokens"
    assert refused.retry_after == 0  # more than the whole limit: waiting will not help
    assert refused.requests.remaining == 10
    assert refused.tokens.remaining == 100


def test_ledger_counts_what_a_dead_holder_left_open_as_used(clock):
    ledger = Ledger(None, 1000, clock)
    ledger.reserve(HOLDER, 1, "key", 600)
    ledger.forget(HOLDER)
    ledger.settle(HOLDER, 1, 0)
    assert ledger.reserve(("worker 0", 2), 1, "key", 500).refused == "tokens"
    clock.now += 30
    assert ledger.reserve(("worker 0", 2), 2, "key", 500).refused is None


def test_ledger_forgets_idle_keys(clock):
    ledger = Ledger(60, 60, clock)
    for number in range(3000):
        ledger.reserve(HOLDER, number, f"key {number}", 1)
        ledger.settle(HOLDER, number, 1)
        clock.now += 1
    assert len(ledger._accounts) < 1100


def test_ledger_without_limits_grants_everything(clock):
    answer = Ledger(None, None, clock).reserve(HOLDER, 1, "key", 10**9)
    assert (answer.refused, answer.requests, answer.tokens) == (None, None, None)
