"""The load that compares mlxnode with its engine process without HTTP."""

import asyncio
import statistics

from bare_engine import start_engine
from figures import Figure, Goal

from mlxnode.bench.prompts import mixed_sampling, token_prompt
from mlxnode.messages.data import Sampling
from workloads.bench import NodeBench, NodeLoad

_STREAMS = 16
_REPETITIONS = 3


async def http(bench: NodeBench) -> list[Figure]:
    """The same requests over HTTP and to an engine without HTTP, three times in turn."""
    fields = [mixed_sampling(seed) for seed in range(_STREAMS)]
    sampling = [Sampling(**each) for each in fields]
    ratios, cpu_seconds, num_tokens = [], 0.0, 0
    with start_engine(bench.server.folder) as engine:
        await asyncio.to_thread(engine.throughput, [token_prompt(1)], 8, sampling[:1])
        for repetition in range(_REPETITIONS):
            prompts = [token_prompt(s) for s in bench.seeds(20 + repetition, _STREAMS)]
            before = bench.server.cpu_seconds()
            rate, answers = await bench.stream_together(prompts, fields)
            cpu_seconds += _cpu_without_engine(before, bench.server.cpu_seconds())
            num_tokens += sum(answer.num_tokens for answer in answers)
            bare_rate = await asyncio.to_thread(
                engine.throughput, prompts, bench.settings.max_tokens, sampling
            )
            ratios.append(rate / bare_rate)
    return [
        bench.figure(
            "16 streams: throughput over that of the engine without HTTP",
            statistics.mean(ratios),
            "times",
            better="more",
            goal=Goal("value", "≥", 0.97),
        ),
        bench.figure("16 streams: CPU of HTTP per token", 1e6 * cpu_seconds / num_tokens, "us"),
    ]


def _cpu_without_engine(before: dict[int, float], after: dict[int, float]) -> float:
    """The CPU seconds of all processes but the engine, which uses by far the most."""
    used = sorted(seconds - before.get(pid, 0) for pid, seconds in after.items())
    return sum(used[:-1])


LOADS = {"http": NodeLoad(http)}
