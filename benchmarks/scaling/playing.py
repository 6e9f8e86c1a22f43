"""Plays requests and traces against real nodes, over HTTP.

Prompts are random token ids, so their lengths are exact. Old answers in a prompt are other
tokens than those that were sampled: a cached prefix ends with the prompt before.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2 as httpx

from mlxnode.bench.servers import Server
from scaling.cluster import Policy, chooser
from scaling.requests import Request
from scaling.traces import Conversation

ANSWER_REUSE = 0.0  # of the prompts of this file
_TOKENS = range(1000, 40_000)  # of the demo model's vocabulary, without control tokens


@dataclass
class Balanced:
    """A node behind the balancer of this process."""

    server: Server
    num_connections: int = 0


def random_ids(seed: str, count: int) -> list[int]:
    """The same tokens for the same ``seed``."""
    return random.Random(seed).choices(_TOKENS, k=count)


async def stream(
    client: httpx.AsyncClient, server: Server, prompt: Sequence[int], answer: int
) -> Request:
    """Send a prompt, and read ``answer`` tokens; times are those of ``time.perf_counter``.

    The penalty keeps the node from drafting tokens: they come one at a time.

    Raises:
        httpx.HTTPError: the node refuses, or the stream breaks.
    """
    body = {
        "model": server.model,
        "prompt": list(prompt),
        "max_tokens": answer,
        "ignore_eos": True,
        "temperature": 0.7,
        "frequency_penalty": 0.01,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = Request("", 0, "", 0, len(prompt), answer, time.perf_counter())
    url = f"{server.url}/v1/completions"
    async with client.stream("POST", url, json=body) as response:
        if response.is_error:
            await response.aread()
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                _read(json.loads(line.removeprefix("data: ")), request)
    return request


def _read(chunk: dict, request: Request) -> None:
    if usage := chunk.get("usage"):
        request.prompt = usage["prompt_tokens"]
        request.num_generated = usage["completion_tokens"]
        details = usage.get("prompt_tokens_details") or {}
        request.num_cached = details.get("cached_tokens", 0)
    if chunk.get("choices") and chunk["choices"][0].get("text"):
        now = time.perf_counter()
        if request.first_token_at == request.first_token_at:  # not NaN: there was one
            request.gaps.append(now - request.last_token_at)
        else:
            request.first_token_at = now
        request.last_token_at = now


async def play(
    conversations: Sequence[Conversation],
    client: httpx.AsyncClient,
    servers: Sequence[Server],
    policy: Policy,
    salt: str,
) -> tuple[list[Request], float]:
    """Play a trace; returns its requests, and the seconds from the first to the last token.

    ``salt``: prompts with another one share no prefix with these.
    """
    nodes = [Balanced(server) for server in servers]
    choose = chooser(policy, nodes)
    started_at = time.perf_counter()

    async def converse(conversation: Conversation) -> list[Request]:
        await asyncio.sleep(started_at + conversation.at - time.perf_counter())
        prompt = random_ids(f"{salt} {conversation.system}", conversation.system_tokens)
        found = []
        for number, turn in enumerate(conversation.turns):
            await asyncio.sleep(turn.think)
            name = f"{salt} {conversation.id} {number}"
            prompt += random_ids(name, turn.user_tokens)
            node = nodes[choose(conversation.id)]
            node.num_connections += 1
            try:
                found.append(await stream(client, node.server, prompt, turn.answer_tokens))
            finally:
                node.num_connections -= 1
            prompt += random_ids(f"{name} answer", turn.answer_tokens)
        return found

    played = await asyncio.gather(*map(converse, conversations))
    requests = [request for part in played for request in part]
    first = started_at + min(conversation.at for conversation in conversations)
    return requests, max(request.last_token_at for request in requests) - first
