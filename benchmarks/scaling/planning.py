"""How many Macs a load needs, what they use, and what breaks first."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from scaling.cluster import Played, Policy, simulate
from scaling.costs import Costs
from scaling.macs import MACS, MODELS, Mac, costs_of
from scaling.summary import quantile, summary_of
from scaling.traces import Workload

_FIRST_RATE = 0.02  # conversations a second and node, of the search for the limit
_HALVINGS = 6
_LEAST = 40  # conversations
_WORKLOAD = Workload()


@dataclass(frozen=True)
class Setup:
    """All but the number of nodes and the rate. ``seconds`` of arrivals are played."""

    costs: Costs
    workload: Workload
    policy: Policy = "affinity"
    seconds: float = 1200.0
    seed: int = 0

    def play(self, nodes: int, rate: float) -> Played:
        """Play ``seconds`` of arrivals, and no longer: what runs then has no end."""
        count = max(round(rate * self.seconds), 1)
        trace = list(self.workload.conversations(rate, count, self.seed))
        return simulate(trace, self.costs, nodes, self.policy, until=trace[-1].at)

    def keeps_up(self, nodes: int, rate: float, bound: float) -> bool:
        """True if the 95th percentile of TTFT is within ``bound``, and nothing is refused.

        Requests that still wait at the end count with the time that they have waited.
        """
        played = self.play(nodes, rate)
        end = max((r.sent_at for r in played.requests), default=0.0)
        times = sorted(
            (end if math.isnan(r.first_token_at) else r.first_token_at) - r.sent_at
            for r in played.requests
        )
        refused = any(request.is_refused for request in played.requests)
        return not refused and quantile(times, 0.95) <= bound


def find_limit(setup: Setup, nodes: int, bound: float) -> float:
    """The highest rate within ``bound`` seconds, in conversations a second; 0: none."""
    low, high = 0.0, _FIRST_RATE * nodes
    while setup.keeps_up(nodes, high, bound):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if setup.keeps_up(nodes, middle, bound) else (low, middle)
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
        "of their limit",
        "TTFT p95",
        "ITL p95",
        "prefix hits",
        "time in prefill",
        "in decode",
        "power",
        "kWh per million tokens",
        "Mac-hours",
        "requests/s",
    ]

    name: str
    rate: float  # conversations a second, in the busiest hour
    mac: str
    model: str = "8b"
    bound: float = 3.0  # TTFT p95, seconds
    workload: Workload = _WORKLOAD


# The busiest hour has a tenth of the conversations of a day.
CASES = (
    Case("household", 4 * 10 * 0.1 / 3600, "m4-max"),
    Case("team of 50", 50 * 20 * 0.1 / 3600, "m4-max"),
    Case("company of 5,000", 5_000 * 10 * 0.1 / 3600, "m3-ultra"),
    Case("a million users a day", 1e6 * 3 * 0.1 / 3600, "m3-ultra"),
)


@dataclass(frozen=True)
class Plan:
    """What a case needs. ``limit``: conversations a second of one Mac."""

    case: Case
    macs: int
    limit: float
    played: Played  # of one of the Macs

    def row(self) -> list[str]:
        found, hours = summary_of(self.played), self.played.seconds / 3600
        (use,) = self.played.uses
        watts = watts_of(self.played, MACS[self.case.mac])
        tokens = sum(request.num_generated for request in self.played.requests) / 1e6
        return [
            self.case.name,
            f"{self.case.rate:.3g}",
            f"{self.macs:,} x {self.case.mac}",
            f"{self.case.rate / self.macs / self.limit:.0%}",
            f"{1000 * found.ttft_p95:.0f} ms",
            f"{1000 * found.itl_p95:.0f} ms",
            f"{found.hit_rate:.0%}",
            f"{use.prefill / self.played.seconds:.0%}",
            f"{use.decode / self.played.seconds:.0%}",
            f"{self.macs * watts:,.0f} W",
            f"{watts * hours / 1000 / tokens:.2f}",
            f"{hours / tokens:.1f}",
            f"{self.macs * len(self.played.requests) / self.played.seconds:.3g}",
        ]


def plan(case: Case) -> Plan:
    """The fewest Macs within the bound, by what one of them can do.

    Behind a balancer that hashes conversations, Macs do not know of each other: each has its
    share of the arrivals, which come as randomly as all of them.
    """
    setup = Setup(costs_of(MACS[case.mac], MODELS[case.model]), case.workload)
    limit = find_limit(setup, 1, case.bound)
    macs = math.ceil(case.rate / limit)
    share = case.rate / macs
    # A household asks so seldom that a longer time is needed for as many requests.
    longer = replace(setup, seconds=max(setup.seconds, _LEAST / share))
    return Plan(case, macs, limit, longer.play(1, share))
