"""What other clients of a worker notice while somebody attacks it.

One worker and one engine. Before each attack and beside it, a client with a key of its own
sends requests for ten tokens, one after the other, and reads a stream. The worst beside the
attack is compared with the usual value of the same run; the memory is that of all processes.

    python benchmarks/hostile.py --json build/hostile.json
    python benchmarks/hostile.py --only keys flood
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
from hostile_inputs import ATTACKS, Attack, Target
from models import export
from servers import Node, start_node

VICTIM, ATTACKER = "sk-victim", "sk-attacker"
TABLES = f"""
[api.keys.victim]
key = "{VICTIM}"
[api.keys.attacker]
key = "{ATTACKER}"
[server]
workers = 1
"""
NUM_ALONE = 10
STREAM_TOKENS = 400
LAYERS = 2


@dataclass(frozen=True)
class Result:
    """Of one attack. Times in seconds, sizes in bytes."""

    attack: str
    answers: dict[str, int]  # to the attacker: their number, by status
    seconds: float  # of the attack
    alone: float  # median of a request for ten tokens
    beside: float  # the worst of them beside the attack
    gap_alone: float  # the longest gap between two tokens of a stream
    gap_beside: float
    grown: int  # most memory beside the attack, over the memory before
    kept: int  # the same afterwards

    def row(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in self.answers.items())
        return (
            f"| {self.attack} | {answers} in {self.seconds:.1f} s "
            f"| {self.beside:.2f} s ({self.beside / self.alone:.1f} x) "
            f"| {self.gap_beside:.2f} s (alone {self.gap_alone:.2f}) "
            f"| {self.grown / 1e6:+.0f} MB, then {self.kept / 1e6:+.0f} MB |"
        )


HEADER = (
    "| attack | answers | worst request for 10 tokens | longest gap of a stream | memory |\n"
    "|---|---|---|---|---|"
)


async def short_request(client: httpx.AsyncClient) -> float:
    """Seconds of a request for ten tokens."""
    body = {"model": "bench", "prompt": "Once upon a time", "max_tokens": 10}
    started = time.perf_counter()
    answer = await client.post("/v1/completions", json=body)
    answer.raise_for_status()
    return time.perf_counter() - started


async def read_stream(client: httpx.AsyncClient, arrivals: list[float]) -> None:
    """Read streams until cancelled; ``arrivals`` are the times of their pieces."""
    body = {"model": "bench", "prompt": "A long story:", "max_tokens": STREAM_TOKENS}
    while True:
        async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as it:
            async for line in it.aiter_lines():
                if line:
                    arrivals.append(time.perf_counter())


def longest_gap(arrivals: list[float], since: float) -> float:
    late = [at for at in arrivals if at >= since] + [time.perf_counter()]
    return max((b - a for a, b in itertools.pairwise([since, *late])), default=0.0)


async def measure(name: str, attack: Attack, node: Node) -> Result:
    """Run one attack on a node that is idle otherwise."""
    headers = {"authorization": f"Bearer {VICTIM}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=node.url, headers=headers, timeout=300, limits=limits
    ) as client:
        arrivals: list[float] = []
        reader = asyncio.create_task(read_stream(client, arrivals))
        await short_request(client)
        since = time.perf_counter()
        alone = statistics.median([await short_request(client) for _ in range(NUM_ALONE)])
        gap_alone = longest_gap(arrivals, since)
        before = most = node.resident_bytes()

        target = Target(node.url, "bench", ATTACKER)
        started = time.perf_counter()
        work = asyncio.ensure_future(attack(target))
        worst = 0.0
        while not work.done():
            worst = max(worst, await short_request(client))
            most = max(most, node.resident_bytes())
        answers: Counter[str] = await work
        seconds = time.perf_counter() - started
        gap_beside = longest_gap(arrivals, started)
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
    await asyncio.sleep(3)
    kept = node.resident_bytes() - before
    return Result(
        name,
        dict(answers.most_common(4)),
        seconds,
        alone,
        worst,
        gap_alone,
        gap_beside,
        most - before,
        kept,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = export(Path(scratch) / "cut", LAYERS)
        print(HEADER, flush=True)
        for name in options.only:
            with start_node(folder, has_embeddings=True, access="", tables=TABLES) as node:
                try:
                    result = asyncio.run(measure(name, ATTACKS[name], node))
                except (httpx.HTTPError, OSError) as error:
                    print(f"| {name} | the other client failed: {error!r} | | | |", flush=True)
                    continue
            results.append(result)
            print(result.row(), flush=True)
    if options.json:
        options.json.write_text(json.dumps(list(map(dataclasses.asdict, results)), indent=1))


if __name__ == "__main__":
    sys.exit(main())
