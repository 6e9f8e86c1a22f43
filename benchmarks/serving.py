"""Throughput and latency over HTTP, beside mlx_lm.server on the same model in the same run.

Both servers are started on free ports of the loopback interface and loaded in turn, so that
whatever else the machine does hits both; afresh for every round, so that no round finds what
another left in a cache. Only ratios mean anything. The
model is the demo model's first six layers with its whole vocabulary, so small that a server's
own cost shows; ``--layers 0`` takes it whole.

    python benchmarks/serving.py --rounds 3 --json serving.json --plot serving.svg
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2 as httpx
from models import export
from servers import Answer, Server, ask, node, peer, resident

STORY = "the river runs past an old mill where people meet on market days to talk"


@dataclass(frozen=True)
class Figure:
    """One figure of one server in one round; of ``is_better`` "more" or "less" is better."""

    server: str
    name: str
    unit: str
    is_better: str
    value: float


def prompt(number: int, words: int | None = None) -> str:
    """A prompt of 40, 200 or 800 tokens, or of so many words; none begins like another."""
    words = words or (30, 160, 640)[number % 3]
    chosen = random.Random(number).choices(STORY.split(), k=words)
    return f"{number} is the number of a story. Continue this at length: {' '.join(chosen)}"


def mixed(number: int) -> dict[str, float]:
    """Every request has parameters of its own."""
    return {"temperature": 0.7 + 0.01 * (number % 16), "top_p": 0.9}


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


# --- loads: each gives figures of one server in one round ---------------------------------


class Bench:
    """One server in one round; ``number`` makes this round's prompts new."""

    def __init__(self, server: Server, client: httpx.AsyncClient, number: int, max_tokens: int):
        self.server, self.client = server, client
        self.number, self.max_tokens = number, max_tokens

    def figure(self, name: str, value: float, unit: str, is_better: str = "less") -> Figure:
        return Figure(self.server.name, name, unit, is_better, value)

    def seeds(self, load: int, count: int) -> list[int]:
        return [self.number * 100_000 + load * 1000 + i for i in range(count)]

    async def streams(
        self,
        name: str,
        numbers: list[int],
        sampling: Callable[[int], dict[str, float]] = mixed,
        before: str = "",
    ) -> list[Figure]:
        """As many answers at once; ``before`` is what all prompts begin with."""
        started_at = time.perf_counter()
        answers = await asyncio.gather(
            *(
                ask(
                    self.client,
                    self.server,
                    before + prompt(n, 30 if before else None),
                    self.max_tokens,
                    **sampling(n),
                )
                for n in numbers
            )
        )
        elapsed = time.perf_counter() - started_at
        rate = sum(answer.tokens for answer in answers) / elapsed
        ttfts = [answer.ttft for answer in answers]
        gaps = [gap for answer in answers for gap in answer.gaps]
        return [
            self.figure(f"{name}: throughput", rate, "tokens/s", "more"),
            self.figure(f"{name}: TTFT median", statistics.median(ttfts), "s"),
            self.figure(f"{name}: TTFT p95", quantile(ttfts, 0.95), "s"),
            self.figure(f"{name}: ITL p95", quantile(gaps, 0.95), "s"),
        ]

    async def one(self) -> list[Figure]:
        return await self.streams("1 stream", self.seeds(1, 1))

    async def four(self) -> list[Figure]:
        return await self.streams("4 streams", self.seeds(2, 4))

    async def sixteen(self) -> list[Figure]:
        return await self.streams("16 streams", self.seeds(3, 16))

    async def thirty_two(self) -> list[Figure]:
        sampler = asyncio.create_task(self._peak_memory())
        figures = await self.streams("32 streams", self.seeds(4, 32))
        sampler.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampler
        return [*figures, self.figure("32 streams: peak memory", self._peak / 1e9, "GB")]

    async def greedy(self) -> list[Figure]:
        numbers = self.seeds(5, 16)
        return await self.streams("16 greedy", numbers, lambda _: {"temperature": 0.0})

    async def seeded(self) -> list[Figure]:
        numbers = self.seeds(6, 16)
        return await self.streams("16 seeded", numbers, lambda n: mixed(n) | {"seed": n})

    async def shared(self) -> list[Figure]:
        before = prompt(self.seeds(7, 1)[0], 640) + "\n"
        return await self.streams("16 sharing 800 tokens", self.seeds(8, 16), before=before)

    async def newcomer(self) -> list[Figure]:
        """A short question to an idle server, and to one with fifteen running answers."""
        idle, busy, *running = self.seeds(9, 17)
        alone = await self._ttft(prompt(idle, 30))
        tasks = await self._begun(running, 2 * self.max_tokens)
        ttft = await self._ttft(prompt(busy, 30))
        await asyncio.gather(*tasks)
        return [
            self.figure(
                "newcomer beside 15: TTFT over that of an idle node", ttft / alone, "times"
            )
        ]

    async def turn(self) -> list[Figure]:
        """The same conversation once more."""
        text = prompt(self.seeds(10, 1)[0], 640)
        cold, again = [await self._ttft(text) for _ in range(2)]
        return [self.figure("repeated turn: TTFT over the first one's", again / cold, "times")]

    async def long_prompt(self) -> list[Figure]:
        """Eight running answers while a prompt of 4,000 words is processed."""
        long, *running = self.seeds(11, 9)
        gaps = []
        for with_prompt in (False, True):
            tasks = await self._begun([n + 500 * with_prompt for n in running], 48)
            other = asyncio.create_task(self._ttft(prompt(long, 4000)))
            if not with_prompt:
                other.cancel()
            answers = await asyncio.gather(*tasks)
            await asyncio.gather(other, return_exceptions=True)
            gaps.append(quantile([gap for answer in answers for gap in answer.gaps], 0.95))
        return [
            self.figure(
                "8 streams beside a long prompt: ITL p95 over that without",
                gaps[1] / gaps[0],
                "times",
            )
        ]

    async def crowd(self) -> list[Figure]:
        """How many of 128 clients that connect at once are turned away."""
        answers = await asyncio.gather(
            *(self._ttft(prompt(n, 5), new=True) for n in self.seeds(12, 128)),
            return_exceptions=True,
        )
        lost = sum(isinstance(answer, BaseException) for answer in answers)
        return [self.figure("128 clients at once: lost", lost, "clients")]

    async def _begun(self, numbers: list[int], length: int) -> list[asyncio.Task[Answer]]:
        """Answers to short prompts, all of them past their first token."""
        begun: asyncio.Queue[float] = asyncio.Queue()
        tasks = [
            asyncio.create_task(
                ask(self.client, self.server, prompt(n, 30), length, begun, **mixed(n))
            )
            for n in numbers
        ]
        for _ in tasks:
            await begun.get()
        return tasks

    async def _ttft(self, text: str, *, new: bool = False) -> float:
        if not new:
            return (await ask(self.client, self.server, text, 1, temperature=0.0)).ttft
        body = {"model": self.server.model, "prompt": text, "max_tokens": 1}
        async with httpx.AsyncClient(timeout=600) as client:
            response = await client.post(f"{self.server.url}/v1/completions", json=body)
        response.raise_for_status()
        return response.elapsed.total_seconds()

    async def _peak_memory(self) -> None:
        self._peak = 0
        while True:
            self._peak = max(self._peak, await asyncio.to_thread(resident, self.server.pid))
            await asyncio.sleep(0.3)


LOADS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    "32": Bench.thirty_two,  # first: its memory is that of a fresh node
    "1": Bench.one,
    "4": Bench.four,
    "16": Bench.sixteen,
    "greedy": Bench.greedy,
    "seeded": Bench.seeded,
    "shared": Bench.shared,
    "newcomer": Bench.newcomer,
    "turn": Bench.turn,
    "long": Bench.long_prompt,
    "crowd": Bench.crowd,
}


# --- rounds -------------------------------------------------------------------------------


async def play(server: Server, load: str, number: int, max_tokens: int) -> list[Figure]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        return await LOADS[load](Bench(server, client, number, max_tokens))


def measure(folder: Path, args: argparse.Namespace) -> list[Figure]:
    """Interleaved rounds, each with fresh servers; the median of each figure."""
    rounds: dict[tuple, list[float]] = {}
    for number in range(args.rounds):
        with contextlib.ExitStack() as running:
            servers = [running.enter_context(node(folder))]
            if not args.without_peer:
                servers.append(running.enter_context(peer(folder)))
            for server in servers:
                asyncio.run(play(server, "1", 99, 8))  # warm up
            for load, server in itertools.product(args.loads, servers):
                try:
                    figures = asyncio.run(play(server, load, number, args.max_tokens))
                except (httpx.HTTPError, ExceptionGroup) as error:
                    print(f"{server.name}, {load}: {error!r}", file=sys.stderr)
                    continue
                for f in figures:
                    key = (f.server, f.name, f.unit, f.is_better)
                    rounds.setdefault(key, []).append(f.value)
                    print(f"round {number + 1}: {f}", file=sys.stderr, flush=True)
    return [Figure(*key, statistics.median(values)) for key, values in rounds.items()]


def compare(figures: list[Figure]) -> list[tuple[Figure, Figure | None]]:
    """Each figure of mlxnode, and the peer's."""
    ours = [figure for figure in figures if figure.server == "mlxnode"]
    peers = {figure.name: figure for figure in figures if figure.server != "mlxnode"}
    return [(figure, peers.get(figure.name)) for figure in ours]


def table(figures: list[Figure]) -> str:
    """Markdown."""
    lines = ["| | mlxnode | mlx_lm.server | ratio |", "|---|---|---|---|"]
    for mine, theirs in compare(figures):
        other = ratio = ""
        if theirs is not None:
            other = f"{theirs.value:.3g} {mine.unit}"
            ratio = f"{mine.value / theirs.value:.2f}" if theirs.value else ""
        lines.append(f"| {mine.name} | {mine.value:.3g} {mine.unit} | {other} | {ratio} |")
    return "\n".join(lines)


def plot(figures: list[Figure], file: Path) -> None:
    """Bars of the ratios of throughput."""
    import matplotlib.pyplot as plt

    pairs = [
        (mine.name.removesuffix(": throughput"), mine.value / theirs.value)
        for mine, theirs in compare(figures)
        if theirs is not None and mine.is_better == "more"
    ]
    names, ratios = zip(*reversed(pairs), strict=True)
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(names)), layout="constrained")
    axes.bar_label(axes.barh(names, ratios), fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("tokens/s of mlxnode over those of mlx_lm.server")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS)
    parser.add_argument("--layers", type=int, default=6, help="of the model; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--without-peer", action="store_true", help="measure mlxnode alone")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--plot", type=Path, help="draw the ratios of throughput there")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(export(Path(scratch) / "model", args.layers or None), args)
    print(table(figures))
    if args.json:
        machine = {"platform": platform.platform(), "cpus": os.cpu_count()}
        document = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
        args.json.write_text(json.dumps(document, indent=2))
    if args.plot:
        plot(figures, args.plot)


if __name__ == "__main__":
    main()
