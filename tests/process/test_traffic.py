"""The traffic of the last minute, on a clock of its own."""

import pytest

from mlxnode.figures import EngineFigures, MemoryFigures, ModelFigures, RunnerFigures
from mlxnode.messages.control import Usage
from mlxnode.process.traffic import Traffic

MEMORY = MemoryFigures(
    limit=1,
    active=0,
    peak=0,
    buffer_cache=0,
    buffer_cache_limit=0,
    wired_limit=0,
    footprint=0,
    kv_total=0,
    kv_claimed=0,
    pressure="normal",
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def traffic(clock) -> Traffic:
    return Traffic(clock)


def counted(
    same_as: dict[str, str] | None = None, **models: tuple[int, int, int]
) -> EngineFigures:
    """Prompt, cached and generated tokens by model."""
    return EngineFigures(
        memory=MEMORY,
        models=[
            ModelFigures(
                id=id,
                weight_bytes=len(id),
                work=RunnerFigures(
                    prompt_tokens=prompt, cached_tokens=cached, generated_tokens=generated
                ),
                same_as=(same_as or {}).get(id),
            )
            for id, (prompt, cached, generated) in models.items()
        ],
    )


def test_traffic_adds_up_keys_and_models_of_the_last_minute(traffic, clock):
    traffic.add(Usage("alice", "m", 10, 4, 3, 0.5))
    clock.now += 30
    traffic.add(Usage("alice", "n", 10, 0, 3, 0.1))
    traffic.add(Usage("bob", "m", 100, 0, 1, 0.2))
    figures = traffic.figures()
    assert [(row.id, row.requests, row.prompt_tokens) for row in figures.keys] == [
        ("bob", 1, 100),
        ("alice", 2, 20),
    ]
    assert [(row.id, row.cached_tokens, row.completion_tokens) for row in figures.models] == [
        ("m", 4, 4),
        ("n", 0, 3),
    ]
    clock.now += 30.5  # the first request is older than a minute
    assert [row.requests for row in traffic.figures().keys] == [1, 1]
    clock.now += 60
    assert traffic.figures().keys == [] and traffic.figures().first_token_median is None


def test_traffic_has_the_median_and_the_95th_percentile_of_texts(traffic):
    for i in range(100):
        traffic.add(Usage("k", "m", 1, 0, 1, (i + 1) / 100))
    traffic.add(Usage("k", "embedding", 1, 0, 0, 99.0))
    traffic.add(Usage("k", "m", 1, 0, 1, None))
    figures = traffic.figures()
    assert figures.first_token_median == 0.5 and figures.first_token_p95 == 0.95


def test_traffic_of_one_text_has_its_time(traffic):
    traffic.add(Usage("k", "m", 1, 0, 1, 0.3))
    figures = traffic.figures()
    assert (figures.first_token_median, figures.first_token_p95) == (0.3, 0.3)


def test_traffic_rates_are_those_of_the_last_seconds(traffic, clock):
    for second in range(20):
        generated = 10 * min(second, 10)  # nothing in the last ten seconds
        traffic.note_engine(counted(m=(100 * second, 40 * second, generated)))
        clock.now += 1
        if second == 8:
            rates = traffic.figures().rates
            assert (rates.prompt, rates.generated) == pytest.approx((60, 10))
            assert rates.models == pytest.approx({"m": 10})
    assert traffic.figures().rates.generated == 0


def test_traffic_rates_of_a_silent_engine_are_zero(traffic, clock):
    traffic.note_engine(counted(m=(0, 0, 0)))
    clock.now += 1
    traffic.note_engine(counted(m=(0, 0, 50)))
    assert traffic.figures().rates.generated == 50
    clock.now += 10
    assert traffic.figures().rates.generated == 0


def test_traffic_rates_begin_again_with_another_engine(traffic, clock):
    for generated in (1000, 1010, 0, 5):
        traffic.note_engine(counted(m=(0, 0, generated)))
        clock.now += 1
    assert traffic.figures().rates.generated == 5


def test_traffic_counts_the_work_of_shared_weights_once(traffic, clock):
    same_as = {"b": "a"}  # and not c, which happens to have the same numbers
    traffic.note_engine(counted(same_as, a=(0, 0, 0), b=(0, 0, 0), c=(0, 0, 0)))
    clock.now += 2
    traffic.note_engine(counted(same_as, a=(0, 0, 10), b=(0, 0, 10), c=(0, 0, 10)))
    rates = traffic.figures().rates
    assert rates.generated == 10 and rates.models == {"a": 5, "b": 5, "c": 5}


def test_traffic_of_many_keys_is_bounded(traffic):
    for i in range(1000):
        traffic.add(Usage(f"key-{i}", "m", i, 0, 1, 0.1))
    figures = traffic.figures()
    assert len(figures.keys) == 100 and figures.keys[0].id == "key-999"


def test_traffic_has_the_gaps_between_tokens_and_the_share_of_cached_ones(traffic, clock):
    assert traffic.figures().prefix_share is None
    for gap in (0.1, 0.2, 0.3, None):
        traffic.add(Usage("alice", "m", 10, 4, 3, 0.5, gap))
    traffic.add(Usage("alice", "vectors", 1000, 0, 0))  # no text: nothing to find in a cache
    figures = traffic.figures()
    assert (figures.inter_token_median, figures.inter_token_p95) == (0.2, 0.3)
    assert figures.prefix_share == 0.4
    clock.now += 60
    assert traffic.figures().inter_token_median is None


def test_traffic_counts_the_requests_of_the_last_seconds(traffic, clock):
    for _ in range(10):
        traffic.add(Usage("alice", "m", 1, 0, 1))
    assert traffic.figures().requests_per_second == 0.0  # the second has not ended
    clock.now += 1
    assert traffic.figures().requests_per_second == 2.0
    clock.now += 5
    assert traffic.figures().requests_per_second == 0.0
