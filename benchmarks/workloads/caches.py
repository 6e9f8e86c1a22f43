"""Loads of models whose layers have states or windows: streams, a shared prefix, two turns."""

from figures import Figure, Goal

from mlxnode.bench.prompts import text_prompt
from workloads.bench import Bench, Load
from workloads.streams import stream_figures

_THROUGHPUT = Goal("ratio", "≥", 1.5)


async def one(bench: Bench) -> list[Figure]:
    return await stream_figures(bench, "1 stream", bench.seeds(1, 1))


async def sixteen(bench: Bench) -> list[Figure]:
    return await stream_figures(bench, "16 streams", bench.seeds(3, 16), throughput=_THROUGHPUT)


async def thirty_two(bench: Bench) -> list[Figure]:
    return await stream_figures(bench, "32 streams", bench.seeds(4, 32), throughput=_THROUGHPUT)


async def shared(bench: Bench) -> list[Figure]:
    return await stream_figures(
        bench,
        "16 sharing 800 tokens",
        bench.seeds(8, 16),
        prefix=text_prompt(bench.seeds(7, 1)[0], 640) + "\n",
        throughput=Goal("ratio", "≥", 1.3),
    )


async def turn(bench: Bench) -> list[Figure]:
    """The same conversation twice, and with another end of its last message."""
    text = text_prompt(bench.seeds(10, 1)[0], 640)
    first, second = [await bench.ttft(text) for _ in range(2)]
    edited = await bench.ttft(text + " Be brief.")
    name, limit = "TTFT over the first one's", Goal("value", "≤", 0.1)
    return [
        bench.figure(f"repeated turn: {name}", second / first, "times", goal=limit),
        bench.figure(f"edited turn: {name}", edited / first, "times"),
    ]


async def long_turn(bench: Bench) -> list[Figure]:
    """The same conversation of about 8,000 tokens twice."""
    text = text_prompt(bench.seeds(11, 1)[0], 6400)
    first, second = [await bench.ttft(text) for _ in range(2)]
    name = "repeated turn of 8,000 tokens: TTFT over the first one's"
    return [bench.figure(name, second / first, "times", goal=Goal("value", "≤", 0.02))]


LOADS = {
    "1": Load(one),
    "16": Load(sixteen),
    "32": Load(thirty_two),
    "shared": Load(shared),
    "turn": Load(turn),
    "long-turn": Load(long_turn),
}
