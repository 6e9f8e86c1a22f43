"""Random loads of a simulated device, and a guard that watches it."""

import random

from support.simulation import Device, SimulatedRunner, random_request

from mlxnode.engine.kvcache.budget import CacheSizes, LayerSize, MemoryBudget
from mlxnode.engine.memory.guard import INTERVAL, MemoryGuard
from mlxnode.engine.memory.pressure import Stage

UNBOUNDED = 2**62
MAX_STEPS = 20_000  # a load that takes longer does not end
PLANNED = 5_000_000  # weights, computations, freed buffers


class Load:
    """One random load on one device, from a seed."""

    def __init__(self, seed: int, num_runners: int = 1):
        self.random = random.Random(seed)
        token = self.random.choice([2, 8, 64])
        plain = LayerSize(0, token, UNBOUNDED)
        window = LayerSize(0, token, self.random.choice([64, 512]))
        states = LayerSize(token * self.random.choice([8, 256]), 0, UNBOUNDED)
        others = self.random.choice([(plain,) * 2, (window,) * 2, (states,) * 2])
        sizes = CacheSizes((plain, *others, plain), surplus=0)
        # From one long request to some dozens.
        total = int(sizes.own(2000) * self.random.choice([1.3, 2, 4, 10]))
        self.budget = MemoryBudget(total)
        self.device = Device(PLANNED + total, PLANNED)
        prefixes = int(total * self.random.choice([0, 0.25, 1]))
        self.runners = []
        for _ in range(num_runners):
            rows, step = self.random.choice([1, 4, 32]), self.random.choice([1, 30, 512])
            self.runners.append(
                SimulatedRunner(self.device, self.budget, sizes, rows, prefixes, step)
            )
        self.now = 0.0
        self.guard = MemoryGuard(
            self.device.limit,
            lambda: self.device.used,
            release=lambda: None,
            clock=lambda: self.now,
            is_system_short=lambda: False,
        )
        self.stages = {Stage.NORMAL}
        self.num_refused = 0
        self.num_failed = 0

    def run(self, num_requests: int) -> None:
        shared = [-2] * 600
        arrivals = [
            random_request(self.random, uid, float(uid), shared) for uid in range(num_requests)
        ]
        self.num_requests = num_requests
        for _ in range(MAX_STEPS):
            while arrivals and self.random.random() < 0.3:
                self.num_refused += not self.random.choice(self.runners).add(arrivals.pop(0))
            if not arrivals and not any(runner.has_work for runner in self.runners):
                return
            self._cancel_some()
            for runner in self.runners:
                runner.step(self.random.choice([16, 256, 2048]))
            self.now += self.random.choice([0.001, INTERVAL, 0.1])
            self.num_failed += len(self.guard.check(self.runners))
            self.stages.add(self.guard.stage)
            self.after_step()
        raise AssertionError("the load does not come to an end")

    def _cancel_some(self) -> None:
        for runner in self.runners:
            if runner.requests and self.random.random() < 0.02:
                runner.abort(self.random.choice(list(runner.requests)))

    def after_step(self) -> None:
        pass

    def check_all_ended(self) -> None:
        ended = [key for runner in self.runners for key in runner.ended]
        assert len(ended) == len(set(ended)) == self.num_requests - self.num_refused
        assert self.budget.claimed == sum(runner.prefixes.nbytes for runner in self.runners)
