"""What /metrics costs: a request that is counted, a token, a scrape, and streams beside one.

    python -m benchmarks.metrics [--sets 200] [--seconds 5]

``--sets`` label sets are counted before the scrapes. The last part is a thread that ticks as a
worker's event loop does while another thread renders, and while the helper process does: how
late the ticks come.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mlxnode.server.metrics.counts import Counts
from mlxnode.server.metrics.ended import Ended
from mlxnode.server.metrics.rendering import Order, render
from mlxnode.server.metrics.scrapes import Scrapes

_TICK = 0.005  # seconds; a step of a small model on a large Mac


def _ended(number: int) -> Ended:
    return Ended(
        route="/v1/chat/completions",
        method="POST",
        status=200,
        outcome="done",
        model=f"model-{number % 10}",
        key=f"key-{number // 10}",
        error=None,
        seconds=1.0,
        asked=0.01,
        queued=0.001,
        computed=0.2,
        first_token=0.25,
        tokens=(100, 60, 50),
    )


def _microseconds(call: Callable[[], object], times: int = 20_000) -> float:
    """What a call takes of the processor, which other processes may have meanwhile."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


async def _ticks(seconds: float, work: Callable[[], object] | None = None) -> list[float]:
    """How late each tick came, in milliseconds, while ``work`` is done each 100 ms."""
    late: list[float] = []
    began = time.perf_counter()

    async def repeat() -> None:
        while work is not None:
            result = work()
            if asyncio.iscoroutine(result):
                await result
            await asyncio.sleep(0.1)

    task = asyncio.create_task(repeat())
    while (now := time.perf_counter()) - began < seconds:
        await asyncio.sleep(_TICK)
        late.append((time.perf_counter() - now - _TICK) * 1e3)
    task.cancel()
    return sorted(late)


def _told(name: str, late: list[float]) -> str:
    p99 = late[int(len(late) * 0.99)]
    return f"{name:32} {statistics.mean(late):8.3f} {p99:8.3f} {late[-1]:8.3f}"


async def _streams(order: Order, seconds: float) -> None:
    now = [0.0]
    scrapes = Scrapes(lambda: now[0])

    async def scrape() -> None:
        now[0] += 10.0  # nothing is fresh
        await scrapes.render(order)

    await scrape()
    print(f"{'how late ticks are, ms':32} {'mean':>8} {'p99':>8} {'most':>8}")
    print(_told("no scrapes", await _ticks(seconds)))
    in_thread = lambda: asyncio.to_thread(render, order)  # noqa: E731
    print(_told("ten a second, in a thread", await _ticks(seconds, in_thread)))
    print(_told("ten a second, in the process", await _ticks(seconds, scrape)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(2):
            counts = Counts(folder, index)
            for number in range(options.sets):
                counts.end(_ended(number))
                counts.inter_token(_ended(number).model or "")(0.02)
        print(f"a request that ends    {_microseconds(lambda: counts.end(_ended(1))):8.2f} µs")
        gap = counts.inter_token("model-1")
        print(f"a token                {_microseconds(lambda: gap(0.02)):8.2f} µs")
        order = Order(folder, None, "text", is_compressed=True)
        plain = order._replace(is_compressed=False)
        size, lines = len(render(plain)), render(plain).count(b"\n")
        for kind in (plain, order):
            what = "compressed" if kind.is_compressed else "plain"
            took = _microseconds(lambda kind=kind: render(kind), 20) / 1e3
            print(f"a scrape, {what:12} {took:8.2f} ms")
        print(f"{size:,} bytes, {lines:,} lines, two workers of {options.sets} label sets")
        asyncio.run(_streams(order, options.seconds))


if __name__ == "__main__":
    main()
