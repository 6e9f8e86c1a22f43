"""The targets of coverage-guided fuzzing, on their seeds and on changed seeds."""

import random

import pytest
from fuzz.targets import TARGETS
from fuzz.wire import spoiled

ROUNDS = 300


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_for_seeds_and_changed_seeds(name):
    run = TARGETS[name].make()
    seeds = TARGETS[name].seeds()
    for seed in seeds:
        run(seed)
    for number in range(ROUNDS):
        rng = random.Random(number)
        run(spoiled(rng.choice(seeds), rng))
