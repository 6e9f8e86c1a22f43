"""Loads of single requests: their latency, and the latency of running streams beside them."""

import asyncio
import random
import statistics

import httpx2 as httpx
from figures import Figure, Goal

from mlxnode.bench.prompts import text_prompt
from mlxnode.bench.requests import complete_once
from workloads.bench import Bench, Load


async def newcomer(bench: Bench) -> list[Figure]:
    """Short prompts to an idle server, and beside fifteen running answers."""
    seeds = bench.seeds(9, 25)

    async def median_ttft(seeds: list[int]) -> float:
        ttfts = []
        for seed in seeds:
            # At any moment of a step, not always after the end of the last answer.
            await asyncio.sleep(random.Random(seed).uniform(0, 0.1))
            ttfts.append(await bench.ttft(text_prompt(seed, 30)))
        return statistics.median(ttfts)

    idle = await median_ttft(seeds[:5])
    running = await bench.start_answers(seeds[10:], 2 * bench.settings.max_tokens)
    busy = await median_ttft(seeds[5:10])
    await asyncio.gather(*running)
    name = "newcomer beside 15: TTFT over that of an idle node"
    return [bench.figure(name, busy / idle, "times", goal=Goal("value", "≤", 2))]


async def turn(bench: Bench) -> list[Figure]:
    """The same conversation twice."""
    prompt = text_prompt(bench.seeds(10, 1)[0], 640)
    first, second = [await bench.ttft(prompt) for _ in range(2)]
    name = "repeated turn: TTFT over the first one's"
    return [bench.figure(name, second / first, "times", goal=Goal("value", "≤", 0.1))]


async def long_prompt(bench: Bench) -> list[Figure]:
    """Eight running answers, without and with the prefill of a very long prompt."""
    long, *running = bench.seeds(11, 9)
    alone, _ = await bench.running_itl_p95(running)
    beside, _ = await bench.running_itl_p95(
        [seed + 500 for seed in running], lambda: bench.ttft(text_prompt(long, 6400))
    )
    name = "8 streams beside a long prompt: ITL p95 over that without"
    return [bench.figure(name, beside / alone, "times", goal=Goal("value", "≤", 2))]


async def crowd(bench: Bench) -> list[Figure]:
    """128 clients that connect at once; the figure counts the requests that fail."""

    async def connect(seed: int) -> None:
        async with httpx.AsyncClient(timeout=600) as client:  # a connection of its own
            await complete_once(client, bench.server, text_prompt(seed, 5))

    results = await asyncio.gather(
        *(connect(seed) for seed in bench.seeds(12, 128)), return_exceptions=True
    )
    lost = sum(isinstance(result, BaseException) for result in results)
    name = "128 clients at once: lost"
    return [bench.figure(name, lost, "clients", goal=Goal("value", "≤", 0))]


LOADS = {
    "newcomer": Load(newcomer),
    "turn": Load(turn),
    "long": Load(long_prompt),
    "crowd": Load(crowd),
}
