"""Random loads on a simulated device: never over its limit, and every request ends."""

import pytest
from support.simulated_load import PLANNED, Load
from support.tables import some_of

from mlxnode.engine.memory.pressure import Stage


@pytest.mark.slow
@pytest.mark.parametrize("hundred", some_of(range(10), range(2)))
def test_a_thousand_random_loads_stay_below_the_limit(hundred):
    peaks, num_displaced = [], 0
    for seed in range(100 * hundred, 100 * (hundred + 1)):
        load = Load(seed, num_runners=1 + seed % 2)
        load.run(num_requests=load.random.randint(1, 60))
        assert load.device.peak <= load.device.limit, seed
        assert load.stages == {Stage.NORMAL} and load.num_failed == 0, seed
        load.check_all_ended()
        peaks.append((load.device.peak - PLANNED) / load.budget.total)
        num_displaced += sum(runner.num_displaced for runner in load.runners)
    assert max(peaks) > 0.8  # the loads do use what they may
    assert num_displaced > 100
