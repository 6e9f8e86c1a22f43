"""The simulator beside two real nodes: the same trace, played by both."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import httpx2 as httpx

from mlxnode.bench.servers import Server
from scaling.cluster import Policy, simulate
from scaling.costs import Costs
from scaling.playing import ANSWER_REUSE, play
from scaling.summary import NAMES, Summary, summarize, summary_of, text_of
from scaling.traces import Workload

# Short, so that two nodes on two processors keep up with it.
WORKLOAD = Workload(
    system_tokens=300,
    user_tokens=60,
    answer_tokens=30,
    turns=4.0,
    think=3.0,
    spread=0.5,
    systems=3,
    max_tokens=150,
)
POLICIES: tuple[Policy, ...] = ("affinity", "round-robin")
COMPARED = (
    "throughput",
    "ttft_mean",
    "ttft_p50",
    "ttft_p95",
    "itl_mean",
    "itl_p50",
    "itl_p95",
    "hit_rate",
)


@dataclass(frozen=True)
class Comparison:
    """One figure of one policy, medians of the rounds."""

    policy: Policy
    name: str
    real: float
    simulated: float

    @property
    def error(self) -> float:
        return self.simulated / self.real - 1


async def validate(
    costs: Costs,
    servers: Sequence[Server],
    client: httpx.AsyncClient,
    *,
    rate: float,
    count: int,
    rounds: int,
) -> list[Comparison]:
    """Play ``rounds`` traces of ``count`` conversations under each policy, for real as well."""
    found: list[Comparison] = []
    for policy in POLICIES:
        real: list[Summary] = []
        simulated: list[Summary] = []
        for seed in range(rounds):
            trace = list(WORKLOAD.conversations(rate, count, seed))
            salt = f"{policy} {seed}"
            requests, seconds = await play(trace, client, servers, policy, salt)
            real.append(summarize(requests, seconds))
            played = simulate(
                trace,
                costs,
                len(servers),
                policy,
                answer_reuse=ANSWER_REUSE,
                share_a_machine=True,
            )
            simulated.append(summary_of(played))
        found += [
            Comparison(policy, name, _median(real, name), _median(simulated, name))
            for name in COMPARED
        ]
    return found


def _median(summaries: Sequence[Summary], name: str) -> float:
    return statistics.median(asdict(summary)[name] for summary in summaries)


def rows_of(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """A row for each figure, and one for the largest error."""
    rows = [
        [
            f"{each.policy}: {NAMES[each.name]}",
            text_of(each.name, each.real),
            text_of(each.name, each.simulated),
            f"{each.error:+.1%}",
        ]
        for each in comparisons
    ]
    return [*rows, ["largest error", "", "", f"{largest(comparisons):.1%}"]]


def largest(comparisons: Sequence[Comparison]) -> float:
    return max(abs(each.error) for each in comparisons)
