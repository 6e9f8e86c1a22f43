"""Streams beside a batch over HTTP: what the batch costs them, and what it loses by them.

In one run: streams alone; the lines sent directly; the batch alone; the batch beside streams.

    python benchmarks/batches.py --json build/batches.json
    python benchmarks/batches.py --url http://127.0.0.1:8080 --key sk-... --model my-chat-model
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import openai
from models import export
from servers import start_node

_WORDS = "Write a sentence about the number"


class Target(NamedTuple):
    """A node, and the model that is measured on it."""

    url: str
    key: str
    model: str


@contextlib.contextmanager
def target_of(options: argparse.Namespace) -> Iterator[Target]:
    """The node that ``options`` name; without a URL, one that runs until the block ends."""
    if options.url:
        yield Target(options.url, options.key, options.model)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = export(Path(scratch) / "model", options.layers or None)
        with start_node(folder) as node:
            yield Target(node.url, options.key, node.model)


async def stream(
    client: openai.AsyncOpenAI, model: str, number: int, tokens: int
) -> list[float]:
    """The seconds between the chunks of one answer."""
    answer = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{_WORDS} {number}, at length."}],
        max_tokens=tokens,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    times = [time.perf_counter() async for _ in answer]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def streams_until(
    client: openai.AsyncOpenAI, options: argparse.Namespace, done: asyncio.Event
) -> list[float]:
    """The gaps of ``options.streams`` streams at a time, until ``done``."""

    async def repeat(first: int) -> list[float]:
        gaps: list[float] = []
        while not done.is_set():
            gaps += await stream(client, options.model, first, options.stream_tokens)
            await asyncio.sleep(options.pause)
        return gaps

    found = await asyncio.gather(*(repeat(i) for i in range(options.streams)))
    return [gap for gaps in found for gap in gaps]


def body_of(options: argparse.Namespace, number: int) -> dict:
    messages = [{"role": "user", "content": f"{_WORDS} {number}."}]
    return {"model": options.model, "messages": messages, "max_tokens": options.line_tokens}


async def run_batch(client: openai.AsyncOpenAI, options: argparse.Namespace) -> float:
    """Lines a second, from the creation of the batch to its end."""
    url = "/v1/chat/completions"
    lines = [
        {"custom_id": str(i), "method": "POST", "url": url, "body": body_of(options, i)}
        for i in range(options.lines)
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = await client.files.create(file=data, purpose="batch")
    began = time.perf_counter()
    batch = await client.batches.create(
        input_file_id=file.id, endpoint=url, completion_window="24h"
    )
    while batch.status in ("validating", "in_progress", "finalizing"):
        await asyncio.sleep(0.25)
        batch = await client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts is not None, batch
    assert batch.request_counts.completed == options.lines, batch.request_counts
    return options.lines / (time.perf_counter() - began)


async def run_directly(client: openai.AsyncOpenAI, options: argparse.Namespace) -> float:
    """Lines a second, as requests of ``options.connections`` connections."""
    numbers = iter(range(options.lines))

    async def send() -> None:
        for number in numbers:
            await client.chat.completions.create(**body_of(options, number))

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(options.connections)))
    return options.lines / (time.perf_counter() - began)


def gaps_in_ms(gaps: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(gaps, n=100)
    return {"p50": round(1000 * cuts[49], 2), "p95": round(1000 * cuts[94], 2)}


async def measure(target: Target, options: argparse.Namespace) -> dict[str, object]:
    options.model = target.model
    async with openai.AsyncOpenAI(
        base_url=f"{target.url}/v1", api_key=target.key, max_retries=0, timeout=3600
    ) as client:
        await stream(client, options.model, 0, 8)  # the model is loaded now
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(options.seconds, done.set)
        alone = await streams_until(client, options, done)
        directly = await run_directly(client, options)
        batch_alone = await run_batch(client, options)
        done = asyncio.Event()
        beside = asyncio.create_task(streams_until(client, options, done))
        batch_beside = await run_batch(client, options)
        done.set()
        return {
            "itl_ms_alone": gaps_in_ms(alone),
            "itl_ms_beside_batch": gaps_in_ms(await beside),
            "lines_per_s_directly": round(directly, 2),
            "lines_per_s_batch_alone": round(batch_alone, 2),
            "lines_per_s_batch_beside_streams": round(batch_beside, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Streams beside a batch, over HTTP.")
    parser.add_argument("--url", help="of a node that runs; otherwise, one is started")
    parser.add_argument("--key", default="none", help="for --url: an API key")
    parser.add_argument("--model", help="for --url: a chat model")
    parser.add_argument("--layers", type=int, default=2, help="of the demo model; 0: all")
    parser.add_argument("--lines", type=int, default=1000, help="of the batch")
    parser.add_argument("--line-tokens", type=int, default=8)
    parser.add_argument("--streams", type=int, default=1, help="that run at the same time")
    parser.add_argument("--stream-tokens", type=int, default=32)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two answers")
    parser.add_argument("--connections", type=int, default=32, help="of lines sent directly")
    parser.add_argument("--seconds", type=float, default=30.0, help="of streams alone")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    options = parser.parse_args()
    if options.url and not options.model:
        parser.error("--url needs --model")
    with target_of(options) as target:
        text = json.dumps(asyncio.run(measure(target, options)), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
