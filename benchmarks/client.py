"""Prompts, and one streamed answer of any server."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from dataclasses import dataclass

import httpx2 as httpx
from servers import EMBEDDING, Server

STORY = "the river runs past an old mill where people meet on market days to talk"
_RETRIES = 10
# What the samplers of one request are asked for.
Sampling = dict[str, float]


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds."""

    tokens: int
    ttft: float
    arrivals: list[float]  # of its chunks, on the clock of ``time.perf_counter``

    def gaps(self, since: float = 0.0) -> list[float]:
        """Between chunks that came after ``since``."""
        return [
            after - before
            for before, after in itertools.pairwise(self.arrivals)
            if before > since
        ]


def words(number: int, count: int) -> str:
    return " ".join(random.Random(number).choices(STORY.split(), k=count))


def prompt(number: int, count: int | None = None) -> str:
    """A prompt of 40, 200 or 800 tokens, or of so many words; none begins like another."""
    count = count or (30, 160, 640)[number % 3]
    return f"{number} is the number of a story. Continue this at length: {words(number, count)}"


def prompt_ids(number: int) -> list[int]:
    """The same lengths in tokens of the demo model, drawn at random."""
    return random.Random(number).choices(range(20, 40_000), k=(40, 200, 800)[number % 3])


def mixed(number: int) -> Sampling:
    """Every request has parameters of its own."""
    return {"temperature": 0.7 + 0.01 * (number % 16), "top_p": 0.9}


def steady(number: int) -> Sampling:
    """The same, but tokens come one at a time: with penalties, mlxnode does not guess ahead."""
    return mixed(number) | {"frequency_penalty": 0.01}


async def ask(
    client: httpx.AsyncClient,
    server: Server,
    text: str | list[int],
    max_tokens: int,
    begun: asyncio.Queue[float] | None = None,
    **sampling: float,
) -> Answer:
    """Stream the answer to a message, or what follows on token ids.

    Its time to the first token is put into ``begun`` at once.
    """
    if isinstance(text, str):
        path, question = "chat/completions", {"messages": [{"role": "user", "content": text}]}
    else:
        path, question = "completions", {"prompt": text}
    body = {
        "model": server.model,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= question | sampling
    started_at = time.perf_counter()
    for _ in range(_RETRIES):
        # mlx_lm.server turns connections away when many come at once.
        with contextlib.suppress(httpx.TransportError):
            return await _stream(client, f"{server.url}/v1/{path}", body, started_at, begun)
    return await _stream(client, f"{server.url}/v1/{path}", body, started_at, begun)


async def _stream(
    client: httpx.AsyncClient,
    url: str,
    body: dict[str, object],
    started_at: float,
    begun: asyncio.Queue[float] | None,
) -> Answer:
    arrivals, tokens = [], 0
    async with client.stream("POST", url, json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
            if chunk.get("choices") and _text(chunk["choices"][0]):
                arrivals.append(time.perf_counter())
                if begun is not None and len(arrivals) == 1:
                    begun.put_nowait(arrivals[0] - started_at)
    arrivals = arrivals or [time.perf_counter()]  # an answer without words
    return Answer(tokens, arrivals[0] - started_at, arrivals)


def _text(choice: dict) -> str | None:
    return choice["delta"].get("content") if "delta" in choice else choice["text"]


async def embed(client: httpx.AsyncClient, server: Server, text: str) -> None:
    """One text, one request."""
    body = {"model": EMBEDDING, "input": text, "encoding_format": "base64"}
    response = await client.post(f"{server.url}/v1/embeddings", json=body)
    response.raise_for_status()
