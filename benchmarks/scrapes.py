"""What scrapes of /metrics cost a node: the gaps in its streams, and the time of processors.

    python benchmarks/scrapes.py --rounds 4 --seconds 15 --json build/scrapes.json

One worker has the streams, and answers the scrapes. Each round has streams without scrapes, and
then with one a second, from another process. At the end, the node has nothing else to do: the
time of its processes with scrapes, less that without.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx2 as httpx
from servers import Node, start_node

_EVERY = 1.0  # seconds between two scrapes
_BODY = {
    "model": "bench",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "stream": True,
    "ignore_eos": True,
}


def scrape_until(url: str, begun: Event, ended: Event) -> None:
    """Scrape as Prometheus does, once each ``_EVERY`` seconds."""
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    with httpx.Client(headers=accept, timeout=60) as client:
        while not ended.wait(_EVERY):
            client.get(f"{url}/metrics").raise_for_status()
            begun.set()


@contextlib.contextmanager
def scraping(url: str) -> Iterator[None]:
    """Scrapes come until the end of the block."""
    context = multiprocessing.get_context("spawn")
    begun, ended = context.Event(), context.Event()
    process = context.Process(target=scrape_until, args=(url, begun, ended))
    process.start()
    try:
        begun.wait(60)  # the process of the worker that renders has started
        yield
    finally:
        ended.set()
        process.join(60)
    if process.exitcode != 0:
        raise RuntimeError("a scrape failed")


async def stream(client: httpx.AsyncClient, seconds: float, max_tokens: int) -> list[float]:
    """The seconds between the events of answers, one after the other."""
    gaps: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        body = _BODY | {"max_tokens": max_tokens}
        times: list[float] = []
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    times.append(time.perf_counter())
                if time.perf_counter() > until:
                    break
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    return gaps


async def streams(url: str, options: argparse.Namespace) -> list[float]:
    """The gaps of some streams at the same time."""
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        found = await asyncio.gather(
            *(
                stream(client, options.seconds, options.max_tokens)
                for _ in range(options.streams)
            )
        )
    return [gap for gaps in found for gap in gaps]


def used_while_idle(node: Node, seconds: float) -> float:
    """The time of processors that all processes of the node take."""
    before = node.cpu_seconds()
    time.sleep(seconds)
    return sum(node.cpu_seconds().values()) - sum(before.values())


def percentiles(gaps: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile, in milliseconds."""
    cuts = statistics.quantiles(gaps, n=100)
    return 1e3 * cuts[49], 1e3 * cuts[94]


def measure(node: Node, options: argparse.Namespace) -> dict[str, float]:
    """All figures; the ratios are medians over the rounds."""
    asyncio.run(streams(node.url, argparse.Namespace(**vars(options) | {"seconds": 2.0})))
    without: list[list[float]] = []
    beside: list[list[float]] = []
    for number in range(options.rounds):
        for is_scraped in (False, True) if number % 2 else (True, False):
            with scraping(node.url) if is_scraped else contextlib.nullcontext():
                gaps = asyncio.run(streams(node.url, options))
            (beside if is_scraped else without).append(gaps)
    idle = used_while_idle(node, options.seconds)
    with scraping(node.url):
        busy = used_while_idle(node, options.seconds)
    alone_50, alone_95 = percentiles(list(itertools.chain(*without)))
    beside_50, beside_95 = percentiles(list(itertools.chain(*beside)))
    pairs = [(percentiles(a), percentiles(b)) for a, b in zip(without, beside, strict=True)]
    return {
        "itl p50 without scrapes, ms": alone_50,
        "itl p50 with scrapes, ms": beside_50,
        "itl p50, ratio": statistics.median(b[0] / a[0] for a, b in pairs),
        "itl p95 without scrapes, ms": alone_95,
        "itl p95 with scrapes, ms": beside_95,
        "itl p95, ratio": statistics.median(b[1] / a[1] for a, b in pairs),
        "tokens, ratio": sum(map(len, beside)) / sum(map(len, without)),
        "a scrape, ms of processors": (busy - idle) / options.seconds * _EVERY * 1e3,
        "share of one processor": (busy - idle) / options.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo/smollm2-135m-instruct", help="its path")
    parser.add_argument("--streams", type=int, default=4, help="at the same time")
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=4, help="with and without, each")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each half of a round")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    options = parser.parse_args()
    with start_node(options.model, tables="[server]\nworkers = 1\n") as node:
        result = measure(node, options)
    for name, value in result.items():
        print(f"{name:32}{value:10.3f}")
    print(f"{'load of the machine':32}{os.getloadavg()[0]:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
