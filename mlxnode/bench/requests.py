"""Requests to any server that is compared."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx

from mlxnode.bench.prompts import Prompt
from mlxnode.bench.servers import Server

_RETRIES = 10


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds."""

    num_tokens: int
    ttft: float
    arrivals: list[float]  # of the chunks, on the clock of ``time.perf_counter``

    @property
    def tpot(self) -> float | None:
        """The time for a token after the first one; None if there is none.

        Unlike the times between chunks, it is the same if several tokens come in one chunk or
        several chunks in one packet.
        """
        if self.num_tokens < 2 or len(self.arrivals) < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.num_tokens - 1)

    def itls(self, since: float = 0.0) -> list[float]:
        """The times between a chunk that arrived after ``since`` and the next chunk."""
        return [
            after - before
            for before, after in itertools.pairwise(self.arrivals)
            if before > since
        ]


async def stream_answer(
    client: httpx.AsyncClient,
    server: Server,
    prompt: Prompt,
    max_tokens: int,
    sampling: Mapping[str, object],
    first_token: asyncio.Event | None = None,
) -> Answer:
    """Stream the answer to a message, or the continuation of token ids.

    ``first_token`` is set when the first token arrives, or when the stream ends without one.
    """
    if isinstance(prompt, str):
        path = "chat/completions"
        prompt_field = {"messages": [{"role": "user", "content": prompt}]}
    else:
        path, prompt_field = "completions", {"prompt": prompt}
    body = {
        "model": server.model,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **prompt_field,
        **sampling,
    }
    url = f"{server.url}/v1/{path}"
    first_token = first_token or asyncio.Event()
    started_at = time.perf_counter()
    try:
        for _ in range(_RETRIES):
            # mlx_lm.server refuses connections when many clients connect at once.
            with contextlib.suppress(httpx.TransportError):
                return await _read_stream(client, url, body, started_at, first_token)
        return await _read_stream(client, url, body, started_at, first_token)
    finally:
        first_token.set()


async def _read_stream(
    client: httpx.AsyncClient,
    url: str,
    body: dict[str, object],
    started_at: float,
    first_token: asyncio.Event,
) -> Answer:
    arrivals, num_tokens = [], 0
    async with client.stream("POST", url, json=body) as response:
        if response.is_error:
            await response.aread()  # the reason
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk.get("usage"):
                num_tokens = chunk["usage"]["completion_tokens"]
            if chunk.get("choices") and _text_of(chunk["choices"][0]):
                arrivals.append(time.perf_counter())
                first_token.set()
    arrivals = arrivals or [time.perf_counter()]  # an answer without text
    # A server that does not count sends one token in each chunk, or more.
    return Answer(num_tokens or len(arrivals), arrivals[0] - started_at, arrivals)


def _text_of(choice: dict[str, Any]) -> str | None:
    if "delta" not in choice:
        return choice["text"]
    delta = choice["delta"]
    names = ("content", "reasoning_content", "reasoning")
    return next((delta[name] for name in names if delta.get(name)), None)


async def complete_once(client: httpx.AsyncClient, server: Server, prompt: str) -> None:
    """Request one token without a stream, and without retries."""
    body = {"model": server.model, "prompt": prompt, "max_tokens": 1}
    response = await client.post(f"{server.url}/v1/completions", json=body)
    response.raise_for_status()


async def embed(
    client: httpx.AsyncClient, server: Server, model: str, texts: str | list[str]
) -> None:
    """Request the embedding of one text, or of several."""
    body = {"model": model, "input": texts, "encoding_format": "base64"}
    response = await client.post(f"{server.url}/v1/embeddings", json=body)
    response.raise_for_status()
