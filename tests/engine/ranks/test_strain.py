"""What rank 0 does when the memory of another rank runs short."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlxnode import footprint
from mlxnode.engine.memory.guard import INTERVAL, MemoryGuard, MemoryMeter
from mlxnode.engine.memory.pressure import CALM, PATIENCE, Stage
from mlxnode.engine.ranks.cluster import Cluster
from mlxnode.engine.ranks.strain import RankMeter, Strain
from mlxnode.engine.work import RequestKey, Youngest
from mlxnode.messages.ranks import Beat

LIMIT = 1000


class FakeCluster:
    """Two ranks beside rank 0."""

    def __init__(self):
        self.told = {1: Beat(fullness=0.3), 2: Beat(fullness=0.5)}

    def beats(self) -> dict[int, Beat]:
        return self.told

    def describe(self, rank: int) -> str:
        return f"rank {rank} (mac-{rank})"


class FakeRunner:
    def __init__(self):
        self.is_paused, self.num_dropped = False, 0
        self.aborted: list[RequestKey] = []
        self.youngest = Youngest(False, 1.0, RequestKey(1, 1))

    def pause(self, is_paused: bool) -> None:
        self.is_paused = is_paused

    def drop_caches(self) -> None:
        self.num_dropped += 1

    def abort(self, key: RequestKey) -> None:
        self.aborted.append(key)


@pytest.fixture
def guarded(monkeypatch):
    """A guard over three ranks, of which this one has room; ``check`` lets time pass."""
    monkeypatch.setattr(footprint, "is_system_short_of_memory", lambda: False)
    cluster, runner, now = FakeCluster(), FakeRunner(), [0.0]
    meter = cast(MemoryMeter, SimpleNamespace(used=lambda: 600))
    strain = Strain(meter, LIMIT, cast(Cluster, cluster))
    guard = MemoryGuard(
        LIMIT,
        strain.used,
        lambda: None,
        clock=lambda: now[0],
        is_system_short=strain.is_system_short,
    )

    def check(seconds: float = INTERVAL) -> list[Any]:
        now[0] += seconds
        return guard.check([runner])

    return SimpleNamespace(
        cluster=cluster, runner=runner, guard=guard, strain=strain, check=check
    )


def test_ranks_with_room_change_nothing(guarded):
    assert guarded.strain.used() == 600 and not guarded.strain.is_system_short()
    assert guarded.check() == [] and guarded.guard.stage is Stage.NORMAL


def test_a_full_rank_pauses_admission_and_then_ends_requests(guarded, caplog):
    caplog.set_level(logging.INFO)
    guarded.cluster.told[2] = Beat(fullness=1.02)
    for _ in range(5):
        assert guarded.check() == []
    assert guarded.guard.stage is Stage.ADMISSION_PAUSED
    assert guarded.runner.is_paused and guarded.runner.num_dropped
    [output] = guarded.check(PATIENCE)
    assert output.message.reason == "overloaded" and len(guarded.runner.aborted) == 1
    guarded.cluster.told[2] = Beat(fullness=0.99)  # it is not told again at once
    guarded.check()
    guarded.cluster.told[2] = Beat(fullness=1.01)
    guarded.check()
    guarded.cluster.told[2] = Beat(fullness=0.5)
    guarded.check(CALM)
    assert guarded.guard.stage is Stage.NORMAL and not guarded.runner.is_paused
    told = [one.message for one in caplog.records if "mac-" in one.message]
    assert told == ["rank 2 (mac-2) is short of memory"]


def test_a_rank_far_above_its_limit_ends_one_request_for_each_of_its_beats(guarded):
    """What it tells is old already when the next check comes."""
    guarded.cluster.told[1] = Beat(fullness=3.0)
    for _ in range(int(PATIENCE / 2 / INTERVAL)):
        guarded.check()
    assert len(guarded.runner.aborted) <= 1


def test_a_system_that_is_short_on_another_rank_aborts_nothing(guarded):
    guarded.cluster.told[1] = Beat(is_system_short=True)
    for _ in range(100):
        assert guarded.check(0.1) == []
    assert guarded.runner.is_paused and not guarded.runner.aborted


def test_a_rank_tells_how_full_it_is():
    meter = cast(MemoryMeter, SimpleNamespace(used=lambda: 300))
    assert RankMeter(meter, 1200).beat().fullness == 0.25
