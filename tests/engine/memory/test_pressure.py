"""The stages of memory pressure, and the guard that acts on them."""

import logging

import pytest
from support.simulated_load import Load
from support.simulation import Device

from mlxnode.engine.memory.guard import INTERVAL, MemoryGuard
from mlxnode.engine.memory.pressure import CALM, HIGH, LOW, PATIENCE, Pressure, Stage
from mlxnode.engine.work import RequestKey, Youngest, in_units

LIMIT = 1000


class FakeRunner:
    """Notes what the guard does."""

    def __init__(self, device: Device, *arrivals: float, prefixes: int = 0):
        self.device = device
        self.arrivals = list(arrivals)
        self.prefixes = prefixes
        self.is_paused = False
        self.aborted: list[RequestKey] = []
        device.sizes[self] = prefixes

    @property
    def youngest(self):
        if not self.arrivals:
            return None
        return Youngest(False, self.arrivals[-1], RequestKey(1, int(self.arrivals[-1])))

    def pause(self, is_paused: bool) -> None:
        self.is_paused = is_paused

    def drop_caches(self) -> None:
        self.device.sizes[self] = 0

    def abort(self, key: RequestKey) -> None:
        self.arrivals.remove(float(key.uid))
        self.aborted.append(key)


class Guarded:
    """A guard on a clock that the test sets."""

    def __init__(self, *runners: FakeRunner, device: Device):
        self.runners, self.device = runners, device
        self.now, self.num_released, self.is_system_short = 0.0, 0, False
        self.guard = MemoryGuard(
            LIMIT,
            lambda: device.used,
            self._release,
            clock=lambda: self.now,
            is_system_short=lambda: self.is_system_short,
        )

    def _release(self) -> None:
        self.num_released += 1

    def check(self, seconds: float = INTERVAL) -> list[int]:
        """The uids of the requests that fail after so much time."""
        self.now += seconds
        return [output.message.uid for output in self.guard.check(self.runners)]


def test_pressure_climbs_one_stage_at_a_time_and_ends_below_the_low_mark():
    pressure = Pressure(LIMIT)
    assert pressure.observe(LIMIT, 0.0) is Stage.NORMAL
    assert pressure.observe(LIMIT + 1, 1.0) is Stage.CACHES_DROPPED
    assert pressure.observe(LIMIT + 1, 1.1) is Stage.ADMISSION_PAUSED
    assert pressure.observe(LIMIT + 1, 1.2) is Stage.ADMISSION_PAUSED  # rows may end
    assert pressure.observe(LIMIT + 1, 1.1 + PATIENCE) is Stage.ABORTING
    assert pressure.observe(LIMIT + 1, 1.2 + PATIENCE) is Stage.ADMISSION_PAUSED
    assert pressure.observe(LIMIT + 1, 1.1 + 2 * PATIENCE) is Stage.ABORTING
    assert pressure.observe(LIMIT, 5.0) is Stage.ADMISSION_PAUSED
    assert pressure.observe(int(LOW * LIMIT), 6.0) is Stage.ADMISSION_PAUSED
    assert pressure.observe(int(LOW * LIMIT) - 1, 7.0) is Stage.NORMAL


def test_pressure_ends_after_a_calm_time_close_to_the_limit():
    pressure = Pressure(LIMIT)
    pressure.observe(LIMIT + 1, 1.0)
    pressure.observe(LIMIT + 1, 2.0)
    assert pressure.observe(LIMIT, 1.9 + CALM) is Stage.ADMISSION_PAUSED
    assert pressure.observe(LIMIT, 2.0 + CALM) is Stage.NORMAL


def test_pressure_far_above_the_limit_does_not_wait():
    pressure, used = Pressure(LIMIT), int(HIGH * LIMIT) + 1
    stages = [pressure.observe(used, 0.1 * i) for i in range(5)]
    assert stages == [1, 2, 3, 3, 3]


def test_pressure_of_the_system_pauses_and_aborts_nothing():
    pressure = Pressure(LIMIT)
    stages = {pressure.observe(10, float(i), is_system_short=True) for i in range(10)}
    assert max(stages) is Stage.ADMISSION_PAUSED
    assert pressure.observe(10, 11.0) is Stage.NORMAL


def test_guard_drops_caches_first_and_that_may_be_enough():
    device = Device(LIMIT, planned=900)
    runner = FakeRunner(device, 1.0, prefixes=200)
    guarded = Guarded(runner, device=device)
    assert guarded.check() == []
    assert (guarded.num_released, runner.is_paused, device.used) == (1, False, 900)
    assert guarded.check() == [] and guarded.guard.stage is Stage.NORMAL


def test_guard_aborts_the_youngest_of_all_models_one_at_a_time(caplog):
    device = Device(LIMIT, planned=LIMIT + 1)
    first, second = FakeRunner(device, 1.0, 4.0), FakeRunner(device, 2.0, 3.0)
    guarded = Guarded(first, second, device=device)
    assert guarded.check() == guarded.check() == []
    assert first.is_paused and second.is_paused
    with caplog.at_level(logging.WARNING):
        failed = [uid for _ in range(6) for uid in guarded.check(PATIENCE)]
    assert failed == [4, 3, 2, 1]
    assert caplog.text.count("aborted") == 1  # once an episode
    device.planned = 0
    assert guarded.check() == []
    assert not first.is_paused and not second.is_paused


def test_guard_says_how_much_memory_is_in_use():
    device = Device(LIMIT, planned=2 * LIMIT)
    guarded = Guarded(FakeRunner(device, 1.0), device=device)
    guarded.check()
    guarded.check()
    guarded.now += INTERVAL
    [output] = guarded.guard.check(guarded.runners)
    assert output.message.reason == "overloaded"
    assert f"{in_units(2 * LIMIT)} of {in_units(LIMIT)} are in use" in output.message.message


def test_guard_reads_the_memory_no_more_often_than_the_interval():
    device = Device(LIMIT, planned=2 * LIMIT)
    guarded = Guarded(device=device)
    guarded.check()
    guarded.check(INTERVAL / 2)
    assert guarded.guard.stage is Stage.CACHES_DROPPED


class Disturbed(Load):
    """Memory that nobody planned for comes and goes."""

    def after_step(self) -> None:
        if self.random.random() < 0.05:
            share = self.random.choice([0, 0, 0.3, 0.9, 2])
            self.device.unplanned = int(share * self.budget.total)


@pytest.mark.slow
@pytest.mark.parametrize("fifty", range(4))
def test_loads_under_pressure_end_and_admission_resumes(fifty):
    stages, num_failed = set(), 0
    for seed in range(50 * fifty, 50 * (fifty + 1)):
        load = Disturbed(seed, num_runners=1 + seed % 2)
        load.run(num_requests=load.random.randint(1, 60))
        load.check_all_ended()
        stages |= load.stages
        num_failed += load.num_failed
        load.device.unplanned = 0
        for _ in range(3):
            load.now += CALM
            load.guard.check(load.runners)
        assert load.guard.stage is Stage.NORMAL
        assert not any(runner.scheduler.is_paused for runner in load.runners)
    assert stages == set(Stage) and num_failed > 0


def test_a_lasting_shortage_ends_every_request_and_blocks_none():
    load = Load(1)
    load.device.unplanned = 10 * load.device.limit
    load.run(num_requests=30)
    load.check_all_ended()
    assert load.num_failed > 0
