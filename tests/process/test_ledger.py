"""Token buckets on a clock that the test sets."""

from typing import Any

import pytest

from mlxnode.config.tables import ApiConfig
from mlxnode.process.ledger import Ledger

HOLDER = ("worker 0", 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ledger_of(
    clock: Clock, requests: int | None = None, tokens: int | None = None, **tables: Any
) -> Ledger:
    limits = {"max_requests_per_minute": requests, "max_tokens_per_minute": tokens}
    return Ledger(ApiConfig.model_validate(limits | tables), clock)


def test_ledger_admits_exactly_the_limit(clock):
    ledger = ledger_of(clock, requests=60)
    answers = [ledger.reserve(HOLDER, ticket, "key", "m", 10) for ticket in range(65)]
    assert [answer.refused for answer in answers] == [None] * 60 + ["requests"] * 5
    assert answers[0].requests.remaining == 59
    assert answers[-1].requests.remaining == 0
    assert answers[-1].tokens is None


def test_ledger_refills_by_a_sixtieth_of_the_limit_a_second(clock):
    ledger = ledger_of(clock, requests=60)
    for ticket in range(60):
        ledger.reserve(HOLDER, ticket, "key", "m", 1)
    refused = ledger.reserve(HOLDER, 60, "key", "m", 1)
    assert refused.retry_after == pytest.approx(1.0)
    assert refused.requests.reset == pytest.approx(60.0)
    clock.now += 0.99
    assert ledger.reserve(HOLDER, 61, "key", "m", 1).refused == "requests"
    clock.now += 0.01
    assert ledger.reserve(HOLDER, 62, "key", "m", 1).refused is None
    clock.now += 3600
    assert ledger.reserve(HOLDER, 63, "key", "m", 1).requests.remaining == 59


def test_ledger_keeps_keys_apart(clock):
    ledger = ledger_of(clock, requests=1)
    assert ledger.reserve(HOLDER, 1, "a", "m", 1).refused is None
    assert ledger.reserve(HOLDER, 2, "b", "m", 1).refused is None
    assert ledger.reserve(HOLDER, 3, "a", "m", 1).refused == "requests"


def test_ledger_settles_to_the_used_tokens_and_only_once(clock):
    ledger = ledger_of(clock, tokens=1000)
    assert ledger.reserve(HOLDER, 1, "key", "m", 900).tokens.remaining == 100
    assert ledger.reserve(HOLDER, 2, "key", "m", 200).refused == "tokens"
    ledger.settle(HOLDER, 1, 100)
    ledger.settle(HOLDER, 1, 0)
    assert ledger.reserve(HOLDER, 3, "key", "m", 900).tokens.remaining == 0


def test_ledger_charges_more_than_the_reservation(clock):
    ledger = ledger_of(clock, tokens=1000)
    ledger.reserve(HOLDER, 1, "key", "m", 100)
    ledger.settle(HOLDER, 1, 400)
    assert ledger.reserve(HOLDER, 2, "key", "m", 600).tokens.remaining == 0


def test_ledger_reserves_what_is_expected_as_far_as_a_full_bucket_has_room(clock):
    ledger = ledger_of(clock, tokens=1000, models=MODELS)
    assert ledger.reserve(HOLDER, 1, "a", "m", 300, 200).tokens.remaining == 500
    assert ledger.reserve(HOLDER, 2, "b", "m", 300, 5000).tokens.remaining == 0
    tight = ledger.reserve(HOLDER, 3, "c", "big", 60, 5000)  # 100 tokens of this model
    assert (tight.tokens.limit, tight.tokens.remaining) == (100, 0)
    refused = ledger.reserve(HOLDER, 4, "a", "m", 300, 5000)
    assert (refused.refused, refused.retry_after) == ("tokens", pytest.approx(30))
    clock.now += 30
    assert ledger.reserve(HOLDER, 5, "a", "m", 300, 5000).refused is None


def test_ledger_takes_what_an_answer_uses_beyond_its_reservation(clock):
    ledger = ledger_of(clock, tokens=1000)
    ledger.reserve(HOLDER, 1, "key", "m", 100, 200)
    ledger.use(HOLDER, 1, 250)  # reserved already
    assert ledger.reserve(HOLDER, 2, "key", "m", 0).tokens.remaining == 700
    ledger.use(HOLDER, 1, 400)
    ledger.use(HOLDER, 1, 350)  # never less than it was
    assert ledger.reserve(HOLDER, 3, "key", "m", 0).tokens.remaining == 600
    ledger.settle(HOLDER, 1, 450)
    ledger.use(HOLDER, 1, 900)  # settled
    assert ledger.reserve(HOLDER, 4, "key", "m", 0).tokens.remaining == 550


def test_ledger_lets_a_key_pay_with_time_for_a_long_answer(clock):
    ledger = ledger_of(clock, tokens=600)
    ledger.reserve(HOLDER, 1, "key", "m", 100, 100)
    ledger.use(HOLDER, 1, 1200)
    refused = ledger.reserve(HOLDER, 2, "key", "m", 1)
    assert refused.tokens.remaining == 0 and refused.tokens.reset == pytest.approx(120)
    assert refused.retry_after == pytest.approx(60.1)
    assert ledger.reserve(HOLDER, 3, "other", "m", 600).refused is None
    clock.now += 60
    ledger.settle(HOLDER, 1, 1200)
    assert ledger.reserve(HOLDER, 4, "key", "m", 1).retry_after == pytest.approx(0.1)
    clock.now += 0.11
    assert ledger.reserve(HOLDER, 5, "key", "m", 1).refused is None


def test_ledger_counts_what_a_dead_holder_has_reported(clock):
    ledger = ledger_of(clock, tokens=1000)
    ledger.reserve(HOLDER, 1, "key", "m", 100, 100)
    ledger.use(HOLDER, 1, 700)
    ledger.forget(HOLDER)
    assert ledger.reserve(HOLDER, 2, "key", "m", 0).tokens.remaining == 300


def test_ledger_takes_nothing_for_a_refused_request(clock):
    ledger = ledger_of(clock, requests=10, tokens=100)
    refused = ledger.reserve(HOLDER, 1, "key", "m", 101)
    assert refused.refused == "tokens"
    assert refused.retry_after is None  # more than the whole limit: waiting will not help
    assert refused.requests.remaining == 10
    assert refused.tokens.remaining == 100


def test_ledger_counts_the_reservations_of_a_dead_holder_as_used(clock):
    ledger = ledger_of(clock, tokens=1000)
    ledger.reserve(HOLDER, 1, "key", "m", 600)
    ledger.forget(HOLDER)
    ledger.settle(HOLDER, 1, 0)
    assert ledger.reserve(("worker 0", 2), 1, "key", "m", 500).refused == "tokens"
    clock.now += 30
    assert ledger.reserve(("worker 0", 2), 2, "key", "m", 500).refused is None


def test_ledger_without_limits_grants_everything(clock):
    answer = ledger_of(clock).reserve(HOLDER, 1, "key", "m", 10**9)
    assert (answer.refused, answer.requests, answer.tokens) == (None, None, None)


KEYS = {
    "small": {"key": "sk-small", "max_requests_per_minute": 2},
    "plain": {"key": "sk-plain"},
}


def test_ledger_limits_a_key_by_its_own_table_else_by_the_api_table(clock):
    ledger = ledger_of(clock, requests=5, tokens=1000, keys=KEYS)
    limits = {}
    for key in ("small", "plain", "0123456789ab"):
        answer = ledger.reserve(HOLDER, 1, key, "m", 1)
        limits[key] = (answer.requests.limit, answer.tokens.limit)
    assert limits == {"small": (2, 1000), "plain": (5, 1000), "0123456789ab": (5, 1000)}


MODELS = {
    "big": {
        "path": "/big",
        "type": "chat",
        "max_requests_per_minute": 2,
        "max_tokens_per_minute": 100,
    },
    "free": {"path": "/free", "type": "chat"},
}


def test_ledger_limits_a_model_for_each_key_apart(clock):
    ledger = ledger_of(clock, models=MODELS)

    def ask(key: str, model: str) -> str | None:
        return ledger.reserve(HOLDER, 1, key, model, 1).refused

    assert [ask("a", "big") for _ in range(3)] == [None, None, "requests"]
    assert ask("b", "big") is None
    assert ask("a", "free") is None


def test_ledger_takes_from_the_key_and_the_model_or_from_neither(clock):
    ledger = ledger_of(clock, requests=3, models=MODELS)
    first = ledger.reserve(HOLDER, 1, "a", "big", 1)
    assert (first.requests.limit, first.requests.remaining) == (2, 1)  # the tighter one
    ledger.reserve(HOLDER, 2, "a", "big", 1)
    assert ledger.reserve(HOLDER, 3, "a", "big", 1).requests.limit == 2
    assert ledger.reserve(HOLDER, 4, "a", "free", 1).requests.remaining == 0
    both = ledger.reserve(HOLDER, 5, "a", "big", 1)
    assert (both.requests.limit, both.retry_after) == (2, pytest.approx(30))
    assert ledger.reserve(HOLDER, 6, "b", "big", 1).requests.limit == 2


def test_ledger_settles_the_key_and_the_model(clock):
    ledger = ledger_of(clock, tokens=150, models=MODELS)
    assert ledger.reserve(HOLDER, 1, "a", "big", 90).tokens.remaining == 10
    ledger.settle(HOLDER, 1, 20)
    answer = ledger.reserve(HOLDER, 2, "a", "big", 80)
    assert (answer.refused, answer.tokens.remaining) == (None, 0)
    assert ledger.reserve(HOLDER, 3, "a", "free", 50).tokens.remaining == 0


def test_ledger_names_the_longest_wait(clock):
    ledger = ledger_of(clock, requests=60, tokens=60)
    for ticket in range(60):
        ledger.reserve(HOLDER, ticket, "key", "m", 1)
    refused = ledger.reserve(HOLDER, 60, "key", "m", 30)
    assert (refused.refused, refused.retry_after) == ("tokens", pytest.approx(30))
    assert ledger.reserve(HOLDER, 61, "key", "m", 1).refused == "requests"
    never = ledger.reserve(HOLDER, 62, "key", "m", 61)
    assert (never.refused, never.retry_after) == ("tokens", None)


# --- new limits while requests run --------------------------------------------------


def test_ledger_keeps_what_is_used_when_a_limit_changes(clock):
    ledger = ledger_of(clock, requests=10)
    for ticket in range(8):
        ledger.reserve(HOLDER, ticket, "key", "m", 1)
    replace(ledger, requests=20)
    assert ledger.reserve(HOLDER, 8, "key", "m", 1).requests.remaining == 20 - 9
    replace(ledger, requests=5)
    refused = ledger.reserve(HOLDER, 9, "key", "m", 1)
    assert refused.refused == "requests" and refused.requests.limit == 5
    clock.now += 120
    assert ledger.reserve(HOLDER, 10, "key", "m", 1).refused is None


def test_ledger_follows_limits_that_come_and_go(clock):
    ledger = ledger_of(clock)
    assert ledger.reserve(HOLDER, 1, "key", "m", 50).tokens is None
    replace(ledger, tokens=100)
    assert ledger.reserve(HOLDER, 2, "key", "m", 80).tokens.remaining == 20
    replace(ledger)
    assert ledger.reserve(HOLDER, 3, "key", "m", 10**6).refused is None
    ledger.settle(HOLDER, 2, 10)  # of a limit that has gone
    replace(ledger, models={"m": {"path": "/m", "type": "chat", "max_tokens_per_minute": 7}})
    assert ledger.reserve(HOLDER, 4, "key", "m", 8).refused == "tokens"


def test_ledger_forgets_keys_that_have_gone(clock):
    ledger = ledger_of(clock, requests=1)
    for key in ("a", "b"):
        ledger.reserve(HOLDER, 1, key, "m", 1)
    replace(ledger, requests=1, keys=("a",))
    assert {name[0] for name in ledger._buckets} == {"a"}
    assert ledger.reserve(HOLDER, 2, "a", "m", 1).refused == "requests"


def replace(ledger: Ledger, requests=None, tokens=None, keys=("key",), **tables: Any) -> None:
    limits = {"max_requests_per_minute": requests, "max_tokens_per_minute": tokens}
    ledger.replace(ApiConfig.model_validate(limits | tables), keys)
