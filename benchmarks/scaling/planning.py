"""How many Macs a load needs, what they use, and what breaks first."""

from dataclasses import dataclass
from typing import ClassVar

from scaling.cluster import Played, Policy, simulate
from scaling.costs import Costs
from scaling.macs import MACS, MODELS, Mac, costs_of
from scaling.summary import summary_of
from scaling.traces import Workload

_HALVINGS = 12
_CELL = 8  # the most nodes that are simulated together


@dataclass(frozen=True)
class Setup:
    """All but the number of nodes and the rate."""

    costs: Costs
    workload: Workload
    policy: Policy
    count: int  # conversations
    seed: int = 0

    def play(self, nodes: int, rate: float) -> Played:
        trace = self.workload.conversations(rate, self.count, self.seed)
        return simulate(trace, self.costs, nodes, self.policy)

    def keeps_up(self, nodes: int, rate: float, bound: float) -> bool:
        """True if the 95th percentile of TTFT is within ``bound``, and nothing is refused."""
        found = summary_of(self.play(nodes, rate))
        return not found.refused and found.ttft_p95 <= bound


def find_limit(setup: Setup, nodes: int, bound: float) -> float:
    """The highest rate, in conversations a second, within ``bound`` seconds; 0: none."""
    low, high = 0.0, 0.001
    while high < 1e4 and setup.keeps_up(nodes, high, bound):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if setup.keeps_up(nodes, middle, bound) else (low, middle)
        )
    return low


def use_of(played: Played, costs: Costs) -> list[tuple[str, str]]:
    """What the nodes did, and what that asks of what is around them."""
    uses, time = played.uses, max(played.seconds, 1e-9)
    whole = time * len(uses)
    requests = len(played.requests)
    tokens = sum(request.num_generated for request in played.requests)
    rows = sum(use.step_rows for use in uses) / max(sum(use.steps for use in uses), 1)
    memory = max(use.most_memory for use in uses) / costs.memory.tokens
    return [
        ("time in prefill", f"{sum(use.prefill for use in uses) / whole:.1%}"),
        ("time in decode", f"{sum(use.decode for use in uses) / whole:.1%}"),
        ("rows in a step", f"{rows:.1f}"),
        ("longest queue", f"{max(use.longest_queue for use in uses)} requests"),
        ("KV memory claimed by rows, at most", f"{memory:.1%}"),
        ("rows given up for memory", f"{sum(use.num_displaced for use in uses)}"),
        ("requests at the balancer", f"{requests / time:.2f}/s"),
        ("chunks of streams at the balancer", f"{tokens / time:.0f}/s"),
        ("commands of shared limits at Redis", f"{2 * requests / time:.2f}/s"),
    ]


def watts_of(played: Played, mac: Mac) -> float:
    """Of all nodes on the average: idle, and the rest by the share of time they work."""
    time = max(played.seconds, 1e-9)
    busy = [min((use.prefill + use.decode) / time, 1.0) for use in played.uses]
    return sum(mac.idle_watts + share * (mac.max_watts - mac.idle_watts) for share in busy)


def energy_of(played: Played, mac: Mac) -> list[tuple[str, str]]:
    """Power, and the cost of a million generated tokens in energy and in Macs."""
    watts = watts_of(played, mac)
    tokens = sum(request.num_generated for request in played.requests) / 1e6
    hours = played.seconds / 3600
    return [
        ("power", f"{watts:.0f} W"),
        ("energy of a million generated tokens", f"{watts * hours / tokens / 1000:.2f} kWh"),
        ("Mac-hours of a million", f"{len(played.uses) * hours / tokens:.1f}"),
    ]


@dataclass(frozen=True)
class Case:
    """A worked example: users, and what they do in the busiest hour."""

    HEADS: ClassVar = [
        "who",
        "conversations/s",
        "Macs",
        "limit of these",
        "TTFT p95",
        "hit rate",
        "prefill",
        "decode",
        "power",
        "kWh per million tokens",
        "requests/s",
    ]

    name: str
    rate: float  # conversations a second, in the busiest hour
    mac: str
    model: str = "8b"
    bound: float = 3.0  # TTFT p95, seconds
    workload: Workload = Workload()
    count: int = 400  # conversations that are simulated


# The busiest hour has a tenth of the conversations of a day.
CASES = (
    Case("household", 4 * 10 * 0.1 / 3600, "m4-max"),
    Case("team of 50", 50 * 20 * 0.1 / 3600, "m4-max"),
    Case("company of 5,000", 5_000 * 10 * 0.1 / 3600, "m3-ultra"),
    Case("a million users a day", 1e6 * 3 * 0.1 / 3600, "m3-ultra"),
)


@dataclass(frozen=True)
class Plan:
    """What a case needs. ``limit``: conversations a second of these Macs."""

    case: Case
    macs: int
    limit: float
    played: Played  # of the Macs that are simulated together
    simulated: int

    def row(self) -> list[str]:
        found, time = summary_of(self.played), self.played.seconds
        whole = time * self.simulated
        uses = self.played.uses
        scale = self.macs / self.simulated
        watts = watts_of(self.played, MACS[self.case.mac])
        tokens = sum(request.num_generated for request in self.played.requests) / 1e6
        return [
            self.case.name,
            f"{self.case.rate:.3g}",
            f"{self.macs:,} x {self.case.mac}",
            f"{self.limit:.3g}",
            f"{1000 * found.ttft_p95:.0f} ms",
            f"{found.hit_rate:.0%}",
            f"{sum(use.prefill for use in uses) / whole:.0%}",
            f"{sum(use.decode for use in uses) / whole:.0%}",
            f"{scale * watts:,.0f} W",
            f"{watts * time / 3.6e6 / tokens:.2f}",
            f"{scale * len(self.played.requests) / time:.2f}",
        ]


def plan(case: Case, policy: Policy) -> Plan:
    """The fewest Macs within the bound; more than a cell's are counted in cells.

    Behind a balancer that hashes, cells do not know of each other: the Macs of many are those
    of one, times their number.
    """
    costs = costs_of(MACS[case.mac], MODELS[case.model])
    setup = Setup(costs, case.workload, policy, case.count)
    for nodes in range(1, _CELL + 1):
        if setup.keeps_up(nodes, case.rate, case.bound):
            limit = find_limit(setup, nodes, case.bound)
            return Plan(case, nodes, limit, setup.play(nodes, case.rate), nodes)
    limit = find_limit(setup, _CELL, case.bound)
    cells = -(-case.rate // limit)
    played = setup.play(_CELL, case.rate / cells)
    return Plan(case, int(cells) * _CELL, cells * limit, played, _CELL)
