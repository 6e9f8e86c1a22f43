"""Where prefill takes snapshots."""

import pytest

from mlxnode.engine.decode.snapshot_plan import INTERVAL, NEAR, forks_of, num_common, plan


def lengths(*arguments, **options) -> list[int]:
    return [stop.length for stop in plan(*arguments, **options)]


def test_plan_stops_at_the_system_prompt_and_the_last_borders():
    borders = [200, 280, 360, 440, 520, 600]
    assert lengths(0, 620, borders) == [200, 440, 520, 600]
    assert all(stop.is_border for stop in plan(0, 620, borders))


def test_plan_leaves_no_gap_wider_than_the_interval():
    for borders in ([], [700], [100, 5000, 5400, 5410]):
        stops = lengths(0, 8000, borders)
        gaps = [b - a for a, b in zip([0, *stops], [*stops, 8000], strict=True)]
        assert max(gaps) <= INTERVAL
        assert all(any(0 <= b - stop < NEAR for stop in stops) for b in borders)


def test_plan_of_a_long_chat_has_few_stops():
    borders = list(range(40, 8000, 40))
    assert len(lengths(0, 8010, borders)) <= 8000 // INTERVAL + 5


def test_plan_prefers_the_earlier_of_two_near_borders():
    assert lengths(0, 400, [300, 310, 320]) == [300]
    assert lengths(0, 60, [30, 50]) == []  # a prompt so short is one chunk


def test_plan_starts_after_the_cached_prefix_and_ends_before_the_end():
    assert lengths(500, 900, [200, 550, 700, 900]) == [700]


def test_plan_marks_a_stop_just_before_a_border_as_that_border():
    stops = plan(0, 700, [INTERVAL + 10])
    assert stops == [(INTERVAL, True)]
    assert plan(0, 700, []) == [(INTERVAL, False)]


def test_plan_has_one_stop_where_a_snapshot_serves_all_before():
    assert lengths(0, 1000, [100, 400, 600], whole=512) == [512, 600]
    assert lengths(0, 500, [100, 400], whole=512) == []  # the one at the end serves them all


def test_forks_of_finds_where_others_part():
    prompt = list(range(1000))
    others = [
        [*prompt[:800], 7],
        [*prompt[:800], 8, 9],
        prompt[:300],
        [5] * 900,
        prompt[:10],
        prompt,
    ]
    assert forks_of(prompt, others) == [800, 300]


@pytest.mark.parametrize("common", [0, NEAR, NEAR + 1, 777, 1000])
def test_num_common_counts_the_same_first_tokens(common):
    prompt = list(range(1000))
    assert num_common(prompt, [*prompt[:common], *[-1] * (1000 - common)]) == common
