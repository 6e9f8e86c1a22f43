"""Token buckets on a clock that the test sets: in this process, and in a real Redis."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support.redis_server import RedisServer

from mlxnode.config.tables import ApiConfig
from mlxnode.messages.control import Reserved
from mlxnode.process.ledger import Ledger

if TYPE_CHECKING:
    from support.shared_ledger import RedisClock, SharedLedger

HOLDER = ("worker 0", 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def ledger_of(self, api: ApiConfig) -> Ledger:
        return Ledger(api, self)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory) -> Iterator[str]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis_clock(redis_url) -> "Iterator[RedisClock]":
    from support.shared_ledger import RedisClock  # which needs the package

    clock = RedisClock(redis_url)
    yield clock
    clock.close()


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.clients)])
def clock(request) -> "Clock | RedisClock":
    return Clock() if request.param == "process" else request.getfixturevalue("redis_clock")


def ledger_of(
    clock: "Clock | RedisClock",
    requests: int | None = None,
    tokens: int | None = None,
    **tables: Any,
) -> "Ledger | SharedLedger":
    limits = {"max_requests_per_minute": requests, "max_tokens_per_minute": tokens}
    return clock.ledger_of(ApiConfig.model_validate(limits | tables))


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


def test_ledger_forgets_keys_that_have_gone():
    # In Redis, a bucket expires instead: another node may still have the key.
    ledger = Ledger(ApiConfig(max_requests_per_minute=1), Clock())
    for key in ("a", "b"):
        ledger.reserve(HOLDER, 1, key, "m", 1)
    replace(ledger, requests=1, keys=("a",))
    assert {name[0] for name in ledger._buckets} == {"a"}
    assert ledger.reserve(HOLDER, 2, "a", "m", 1).refused == "requests"


def replace(ledger: Ledger, requests=None, tokens=None, keys=("key",), **tables: Any) -> None:
    limits = {"max_requests_per_minute": requests, "max_tokens_per_minute": tokens}
    ledger.replace(ApiConfig.model_validate(limits | tables), keys)


@pytest.mark.clients
@pytest.mark.parametrize("seed", range(8))
def test_both_stores_answer_the_same_to_any_sequence(redis_clock, seed):
    chance = random.Random(seed)
    tables = {"models": MODELS, "keys": {"k": {"key": "sk-1", "max_tokens_per_minute": 700}}}
    clocks = (Clock(), redis_clock)
    ledgers = [ledger_of(clock, requests=20, tokens=1000, **tables) for clock in clocks]
    running: list[tuple[Any, int]] = []
    granted = refused = 0
    for ticket in range(400):
        holder = ("worker", chance.randrange(3))
        match chance.choices(
            ["reserve", "use", "settle", "forget", "replace", "time"], [9, 3, 5, 0.5, 0.5, 6]
        )[0]:
            case "reserve":
                arguments = (
                    *(holder, ticket, chance.choice("abk"), chance.choice(["m", "big"])),
                    *(chance.choice([0, 1, 60, 300]), chance.choice([0, 50, 1024])),
                )
                one, other = (ledger.reserve(*arguments) for ledger in ledgers)
                assert as_values(one) == pytest.approx(as_values(other), abs=1e-6), arguments
                if one.refused is None:
                    running.append((holder, ticket))
                    granted += 1
                else:
                    refused += 1
            case "use" if running:
                name, tokens = chance.choice(running), chance.randrange(1500)
                [ledger.use(*name, tokens) for ledger in ledgers]
            case "settle" if running:
                name, tokens = (
                    running.pop(chance.randrange(len(running))),
                    chance.randrange(600),
                )
                [ledger.settle(*name, tokens) for ledger in ledgers]
            case "forget":
                [ledger.forget(holder) for ledger in ledgers]
                running = [name for name in running if name[0] != holder]
            case "replace":
                limits = {"max_requests_per_minute": chance.choice([10, 40])}
                limits["max_tokens_per_minute"] = chance.choice([500, 3000])
                api = ApiConfig.model_validate(limits | tables)
                [ledger.replace(api, {"a", "b", "k"}) for ledger in ledgers]
            case "time":
                seconds = chance.choice([0.125, 1, 5, 40])
                for clock in clocks:
                    clock.now += seconds
    assert min(granted, refused) > 20


def as_values(answer: Reserved) -> list[float]:
    kinds = [None, "requests", "tokens"]
    values = [
        kinds.index(answer.refused),
        -1 if answer.retry_after is None else answer.retry_after,
    ]
    for limit in (answer.requests, answer.tokens):
        values += [-1] if limit is None else [limit.limit, limit.remaining, limit.reset]
    return values
