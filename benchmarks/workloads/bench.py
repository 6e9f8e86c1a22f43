"""What all loads share: one server in one round, the requests to it, and its figures."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx2 as httpx
from figures import Figure, Goal, Metric
from servers import Node, Server

from mlxnode.bench.prompts import Prompt, SamplingFields, text_prompt, undrafted_sampling
from mlxnode.bench.requests import Answer, stream_answer

_BACKGROUND_TOKENS = 48  # of an answer that runs beside other work


@dataclass(frozen=True)
class Settings:
    """The settings of one stage of a round.

    ``round`` makes the prompts of a round new. ``sentence_transformers`` is a Python that has
    this library, to compare embeddings with it.
    """

    stage: "Stage"
    round: int
    max_tokens: int
    sentence_transformers: str | None = None


@dataclass(frozen=True)
class Bench:
    """One server in one round."""

    server: Server
    client: httpx.AsyncClient
    settings: Settings

    def figure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        better: Literal["more", "less"] = "less",
        goal: Goal | None = None,
    ) -> Figure:
        metric = Metric(self.settings.stage, name, unit, better, goal)
        return Figure(self.server.name, metric, value)

    def seeds(self, load: int, count: int) -> list[int]:
        """Seeds that no other round has, and no load with another number."""
        return [self.settings.round * 100_000 + load * 1000 + i for i in range(count)]

    async def stream_together(
        self, prompts: Sequence[Prompt], sampling: Sequence[SamplingFields]
    ) -> tuple[float, list[Answer]]:
        """Stream all answers at once; return their tokens per second, and the answers."""
        started_at = time.perf_counter()
        answers = await asyncio.gather(
            *(
                stream_answer(
                    self.client, self.server, prompt, self.settings.max_tokens, fields
                )
                for prompt, fields in zip(prompts, sampling, strict=True)
            )
        )
        elapsed = time.perf_counter() - started_at
        return sum(answer.num_tokens for answer in answers) / elapsed, answers

    async def start_answers(
        self, seeds: list[int], max_tokens: int
    ) -> list[asyncio.Task[Answer]]:
        """Start the answers to short prompts; return when all of them have a first token."""
        first_tokens = [asyncio.Event() for _ in seeds]
        tasks = [
            asyncio.create_task(
                stream_answer(
                    self.client,
                    self.server,
                    text_prompt(seed, 30),
                    max_tokens,
                    undrafted_sampling(seed),
                    first_token,
                )
            )
            for seed, first_token in zip(seeds, first_tokens, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in first_tokens))
        return tasks

    async def running_itl_p95(
        self,
        seeds: list[int],
        beside: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> tuple[float, float]:
        """The p95 of the ITL of running answers beside other work, and their seconds.

        The other work is cancelled when the answers are complete.
        """
        tasks = await self.start_answers(seeds, _BACKGROUND_TOKENS)
        started_at = time.perf_counter()
        other_work = asyncio.create_task(beside()) if beside else None
        answers = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - started_at
        if other_work is not None and not other_work.cancel():
            other_work.result()  # raises the error of the other work
        return itl_p95(answers, started_at), seconds

    async def ttft(self, prompt: str) -> float:
        answer = await stream_answer(
            self.client, self.server, prompt, max_tokens=1, sampling={"temperature": 0.0}
        )
        return answer.ttft


@dataclass(frozen=True)
class NodeBench(Bench):
    """mlxnode in one round."""

    server: Node


# ``cut``: a chat model with the first layers only. ``whole``: the chat model with all layers.
# ``embeddings``: the cut chat model and an embedding model. ``hybrid``: a model with states.
# ``windows``: a model with sliding windows.
Stage = Literal["cut", "whole", "embeddings", "hybrid", "windows"]


@dataclass(frozen=True)
class Load:
    """A load for all servers."""

    run: Callable[[Bench], Awaitable[list[Figure]]]


@dataclass(frozen=True)
class NodeLoad:
    """A load for mlxnode only."""

    run: Callable[[NodeBench], Awaitable[list[Figure]]]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def itl_p95(answers: list[Answer], since: float = 0.0) -> float:
    return quantile([itl for answer in answers for itl in answer.itls(since)], 0.95)
