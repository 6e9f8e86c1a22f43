"""Loads of concurrent streams: throughput, times to first tokens, memory."""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Callable

from figures import Figure, Goal
from servers import LocalServer, Server

from mlxnode.bench.prompts import SamplingFields, mixed_sampling, text_prompt
from workloads.bench import Bench, Load, itl_p95, quantile

_MEMORY_INTERVAL = 0.3  # seconds between two samples


async def stream_figures(
    bench: Bench,
    name: str,
    seeds: list[int],
    *,
    sampling: Callable[[int], SamplingFields] = mixed_sampling,
    prefix: str = "",
    throughput: Goal | None = None,
    ttft_median: Goal | None = None,
    ttft_p95: Goal | None = None,
) -> list[Figure]:
    """Stream one answer for each seed, all at once. The goals are those of the figures.

    ``prefix``: all prompts start with this text.
    """
    prompts = [prefix + text_prompt(seed, 30 if prefix else None) for seed in seeds]
    rate, answers = await bench.stream_together(prompts, [sampling(seed) for seed in seeds])
    ttfts = [answer.ttft for answer in answers]
    return [
        bench.figure(f"{name}: throughput", rate, "tokens/s", better="more", goal=throughput),
        bench.figure(f"{name}: TTFT median", statistics.median(ttfts), "s", goal=ttft_median),
        bench.figure(f"{name}: TTFT p95", quantile(ttfts, 0.95), "s", goal=ttft_p95),
        bench.figure(f"{name}: ITL p95", itl_p95(answers), "s"),
    ]


async def one(bench: Bench) -> list[Figure]:
    goal = Goal("ratio", "≥", 1.0)
    return await stream_figures(bench, "1 stream", bench.seeds(1, 1), throughput=goal)


async def four(bench: Bench) -> list[Figure]:
    return await stream_figures(bench, "4 streams", bench.seeds(2, 4))


async def sixteen(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 streams",
        bench.seeds(3, 16),
        throughput=Goal("ratio", "≥", 1.8),
        ttft_median=Goal("ratio", "≤", 0.5),
        ttft_p95=Goal("ratio", "≤", 0.7),
    )


async def whole(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 streams",
        bench.seeds(3, 16),
        throughput=Goal("ratio", "≥", 1.3),
    )


async def thirty_two(bench: Bench) -> list[Figure]:
    """Thirty-two streams, and the peak memory of a server that the benchmark started."""
    async with _memory_samples(bench.server) as samples:
        figures = await stream_figures(
            bench, "32 streams", bench.seeds(4, 32), throughput=Goal("ratio", "≥", 1.8)
        )
    if samples:
        name, goal = "32 streams: peak memory", Goal("ratio", "≤", 0.8)
        figures.append(bench.figure(name, max(samples) / 1e9, "GB", goal=goal))
    return figures


@contextlib.asynccontextmanager
async def _memory_samples(server: Server) -> AsyncIterator[list[int]]:
    """Sample the bytes of memory of a local server until the block ends."""
    samples: list[int] = []

    async def sample() -> None:
        while isinstance(server, LocalServer):
            samples.append(await asyncio.to_thread(server.resident_bytes))
            await asyncio.sleep(_MEMORY_INTERVAL)

    task = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def greedy(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 greedy",
        bench.seeds(5, 16),
        sampling=lambda _: {"temperature": 0.0},
        throughput=Goal("ratio", "≥", 1.25),
    )


async def seeded(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 seeded",
        bench.seeds(6, 16),
        sampling=lambda seed: mixed_sampling(seed) | {"seed": seed},
        throughput=Goal("ratio", "≥", 4),
    )


async def shared(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 sharing 800 tokens",
        bench.seeds(8, 16),
        prefix=text_prompt(bench.seeds(7, 1)[0], 640) + "\n",
        throughput=Goal("ratio", "≥", 1.3),
    )


LOADS = {
    "32": Load(thirty_two),  # first: this load measures the memory of a fresh node
    "1": Load(one),
    "4": Load(four),
    "16": Load(sixteen),
    "greedy": Load(greedy),
    "seeded": Load(seeded),
    "shared": Load(shared),
}
WHOLE_LOADS = {"16": Load(whole)}
