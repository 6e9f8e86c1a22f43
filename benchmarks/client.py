"""Requests to any server that is compared."""

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
from prompts import Prompt, SamplingFields
from servers import EMBEDDING_MODEL, Server

_RETRIES = 10


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds."""

    num_tokens: int
    ttft: float
    arrivals: list[float]  # of the chunks, on the clock of ``time.perf_counter``

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
    sampling: SamplingFields,
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
    return Answer(num_tokens, arrivals[0] - started_at, arrivals)


def _text_of(choice: dict[str, Any]) -> str | None:
    return choice["delta"].get("content") if "delta" in choice else choice["text"]


async def complete_once(client: httpx.AsyncClient, server: Server, prompt: str) -> None:
    """Request one token without a stream, and without retries."""
    body = {"model": server.model, "prompt": prompt, "max_tokens": 1}
    response = await client.post(f"{server.url}/v1/completions", json=body)
    response.raise_for_status()


async def embed(client: httpx.AsyncClient, server: Server, text: str) -> None:
    """Request the embedding of one text."""
    body = {"model": EMBEDDING_MODEL, "input": text, "encoding_format": "base64"}
    response = await client.post(f"{server.url}/v1/embeddings", json=body)
    response.raise_for_status()
