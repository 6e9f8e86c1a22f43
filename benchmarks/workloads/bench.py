"""What the servers are loaded with; each load gives figures of one server in one round."""

import asyncio
import contextlib
import random
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2 as httpx
from bare_engine import engine_alone
from client import Answer, Sampling, ask, embed, mixed, prompt, prompt_ids, steady, words
from servers import EMBEDDING, Server, cpu_seconds, resident

from mlxnode import messages
from mlxnode.models.demo import fetch_demo_model

EMBEDDING_CLIENTS = 32


@dataclass(frozen=True)
class Figure:
    """One figure of one server in one round; of ``is_better`` "more" or "less" is better."""

    server: str
    name: str
    unit: str
    is_better: str
    value: float


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def itl_p95(answers: list[Answer], since: float = 0.0) -> float:
    return quantile([gap for answer in answers for gap in answer.gaps(since)], 0.95)


class Bench:
    """One server in one round; ``number`` makes this round's prompts new.

    ``sentence_transformers`` is a Python that has them, to compare embeddings with.
    """

    def __init__(
        self,
        server: Server,
        client: httpx.AsyncClient,
        number: int,
        max_tokens: int,
        sentence_transformers: str | None = None,
    ):
        self.server, self.client = server, client
        self.number, self.max_tokens = number, max_tokens
        self.sentence_transformers = sentence_transformers

    def figure(self, name: str, value: float, unit: str, is_better: str = "less") -> Figure:
        return Figure(self.server.name, name, unit, is_better, value)

    def seeds(self, load: int, count: int) -> list[int]:
        return [self.number * 100_000 + load * 1000 + i for i in range(count)]

    # --- streams --------------------------------------------------------------------

    async def streams(
        self,
        name: str,
        numbers: list[int],
        sampling: Callable[[int], Sampling] = mixed,
        before: str = "",
    ) -> list[Figure]:
        """As many answers at once; ``before`` is what all prompts begin with."""
        texts = [before + prompt(n, 30 if before else None) for n in numbers]
        rate, answers = await self._ask_all(texts, [sampling(n) for n in numbers])
        ttfts = [answer.ttft for answer in answers]
        return [
            self.figure(f"{name}: throughput", rate, "tokens/s", "more"),
            self.figure(f"{name}: TTFT median", statistics.median(ttfts), "s"),
            self.figure(f"{name}: TTFT p95", quantile(ttfts, 0.95), "s"),
            self.figure(f"{name}: ITL p95", itl_p95(answers), "s"),
        ]

    async def one(self) -> list[Figure]:
        return await self.streams("1 stream", self.seeds(1, 1))

    async def four(self) -> list[Figure]:
        return await self.streams("4 streams", self.seeds(2, 4))

    async def sixteen(self) -> list[Figure]:
        return await self.streams("16 streams", self.seeds(3, 16))

    async def whole(self) -> list[Figure]:
        return await self.streams("16 streams, whole model", self.seeds(3, 16))

    async def thirty_two(self) -> list[Figure]:
        sampler = asyncio.create_task(self._peak_memory())
        figures = await self.streams("32 streams", self.seeds(4, 32))
        sampler.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampler
        if self.server.pid is None:
            return figures
        return [*figures, self.figure("32 streams: peak memory", self._peak / 1e9, "GB")]

    async def greedy(self) -> list[Figure]:
        numbers = self.seeds(5, 16)
        return await self.streams("16 greedy", numbers, lambda _: {"temperature": 0.0})

    async def seeded(self) -> list[Figure]:
        numbers = self.seeds(6, 16)
        return await self.streams("16 seeded", numbers, lambda n: mixed(n) | {"seed": n})

    async def shared(self) -> list[Figure]:
        before = prompt(self.seeds(7, 1)[0], 640) + "\n"
        return await self.streams("16 sharing 800 tokens", self.seeds(8, 16), before=before)

    # --- latency --------------------------------------------------------------------

    async def newcomer(self) -> list[Figure]:
        """Short questions to an idle server, and to one with fifteen running answers."""
        numbers = self.seeds(9, 25)

        async def median_ttft(numbers: list[int]) -> float:
            ttfts = []
            for n in numbers:
                # At any moment of a step, not always behind the last answer.
                await asyncio.sleep(random.Random(n).uniform(0, 0.1))
                ttfts.append(await self._ttft(prompt(n, 30)))
            return statistics.median(ttfts)

        idle = await median_ttft(numbers[:5])
        tasks = await self._begun(numbers[10:], 2 * self.max_tokens)
        busy = await median_ttft(numbers[5:10])
        await asyncio.gather(*tasks)
        name = "newcomer beside 15: TTFT over that of an idle node"
        return [self.figure(name, busy / idle, "times")]

    async def turn(self) -> list[Figure]:
        """The same conversation once more."""
        text = prompt(self.seeds(10, 1)[0], 640)
        cold, again = [await self._ttft(text) for _ in range(2)]
        return [self.figure("repeated turn: TTFT over the first one's", again / cold, "times")]

    async def long_prompt(self) -> list[Figure]:
        """Eight running answers while a prompt that fills the context is processed."""
        long, *running = self.seeds(11, 9)
        alone, _ = await self._beside(running)
        beside, _ = await self._beside(
            [n + 500 for n in running], lambda: self._ttft(prompt(long, 6400))
        )
        name = "8 streams beside a long prompt: ITL p95 over that without"
        return [self.figure(name, beside / alone, "times")]

    async def crowd(self) -> list[Figure]:
        """How many of 128 clients that connect at once are turned away."""
        answers = await asyncio.gather(
            *(self._first_byte(prompt(n, 5)) for n in self.seeds(12, 128)),
            return_exceptions=True,
        )
        lost = sum(isinstance(answer, BaseException) for answer in answers)
        return [self.figure("128 clients at once: lost", lost, "clients")]

    # --- the node alone -------------------------------------------------------------

    async def http(self) -> list[Figure]:
        """The same requests over HTTP and to an engine without it, three times in turn."""
        sampling = [messages.Sampling(**mixed(n)) for n in range(16)]
        ratios, cpu, tokens = [], 0.0, 0
        with engine_alone(self.server.folder) as engine:
            await asyncio.to_thread(engine.throughput, [prompt_ids(1)], 8, sampling[:1])
            for turn in range(3):
                ids = [prompt_ids(n) for n in self.seeds(20 + turn, 16)]
                before = self._cpu()
                rate, answers = await self._ask_all(ids, [mixed(n) for n in range(16)])
                # The engine computes the most by far; the rest is what HTTP takes.
                used = sorted(after - before.get(p, 0) for p, after in self._cpu().items())
                cpu += sum(used[:-1])
                tokens += sum(answer.tokens for answer in answers)
                alone = await asyncio.to_thread(
                    engine.throughput, ids, self.max_tokens, sampling
                )
                ratios.append(rate / alone)
        name = "16 streams: throughput over that of the engine without HTTP"
        return [
            self.figure(name, statistics.mean(ratios), "times", "more"),
            self.figure("16 streams: CPU of HTTP per token", 1e6 * cpu / tokens, "us"),
        ]

    async def embeddings(self) -> list[Figure]:
        """Clients that send short texts, one a request; and sentence-transformers."""
        numbers = self.seeds(15, 20 * EMBEDDING_CLIENTS)
        texts = [words(n, 20) for n in numbers]
        queue = iter(texts)

        async def client() -> None:
            for text in queue:
                await embed(self.client, self.server, text)

        before = sum(self._cpu().values())
        await asyncio.gather(*(client() for _ in range(EMBEDDING_CLIENTS)))
        rate = len(texts) / (sum(self._cpu().values()) - before)
        figures = [self.figure("embeddings: texts a CPU-second", rate, "texts", "more")]
        if self.sentence_transformers is not None:
            peer = await asyncio.to_thread(
                _sentence_transformers, self.sentence_transformers, texts
            )
            name = "embeddings: texts a CPU-second over sentence-transformers'"
            figures.append(self.figure(name, rate / peer, "times", "more"))
        return figures

    async def chat_beside_embeddings(self) -> list[Figure]:
        """Eight running answers without and with clients that send short texts."""
        running = self.seeds(16, 8)
        alone, _ = await self._beside(running)
        count = 0

        async def client(number: int) -> None:
            nonlocal count
            while True:
                await embed(self.client, self.server, words(number + count, 20))
                count += 1

        async def clients() -> None:
            await asyncio.gather(*(client(1000 * n) for n in range(EMBEDDING_CLIENTS)))

        beside, seconds = await self._beside([n + 500 for n in running], clients)
        name = "8 streams beside 32 embedding clients: ITL p95 over that without"
        return [
            self.figure(name, beside / alone, "times"),
            self.figure(
                "32 embedding clients beside 8 streams", count / seconds, "texts/s", "more"
            ),
        ]

    # --- asking ---------------------------------------------------------------------

    async def _ask_all(
        self, texts: list[str] | list[list[int]], sampling: list[Sampling]
    ) -> tuple[float, list[Answer]]:
        """Tokens a second of all answers, and the answers."""
        started_at = time.perf_counter()
        answers = await asyncio.gather(
            *(
                ask(self.client, self.server, text, self.max_tokens, **parameters)
                for text, parameters in zip(texts, sampling, strict=True)
            )
        )
        elapsed = time.perf_counter() - started_at
        return sum(answer.tokens for answer in answers) / elapsed, answers

    async def _begun(self, numbers: list[int], length: int) -> list[asyncio.Task[Answer]]:
        """Answers to short prompts, all of them past their first token."""
        begun: asyncio.Queue[float] = asyncio.Queue()
        tasks = [
            asyncio.create_task(
                ask(self.client, self.server, prompt(n, 30), length, begun, **steady(n))
            )
            for n in numbers
        ]
        for _ in tasks:
            await begun.get()
        return tasks

    async def _beside(
        self, numbers: list[int], other: Callable[[], Coroutine] | None = None
    ) -> tuple[float, float]:
        """The p95 of the ITL of running answers beside something else, and their seconds.

        What has not ended by then is ended.
        """
        tasks = await self._begun(numbers, 48)
        started_at = time.perf_counter()
        beside = asyncio.create_task(other()) if other else None
        answers = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - started_at
        if beside is not None and not beside.cancel():
            beside.result()  # raises what it raised
        return itl_p95(answers, started_at), seconds

    async def _ttft(self, text: str) -> float:
        return (await ask(self.client, self.server, text, 1, temperature=0.0)).ttft

    async def _first_byte(self, text: str) -> float:
        """Over a connection of its own, which is not tried again."""
        body = {"model": self.server.model, "prompt": text, "max_tokens": 1}
        async with httpx.AsyncClient(timeout=600) as client:
            response = await client.post(f"{self.server.url}/v1/completions", json=body)
        response.raise_for_status()
        return response.elapsed.total_seconds()

    def _cpu(self) -> dict[int, float]:
        return cpu_seconds(self.server.pid)

    async def _peak_memory(self) -> None:
        self._peak = 0
        while self.server.pid is not None:
            self._peak = max(self._peak, await asyncio.to_thread(resident, self.server.pid))
            await asyncio.sleep(0.3)


def _sentence_transformers(python: str, texts: list[str]) -> float:
    """Texts a CPU-second of sentence-transformers."""
    script = Path(__file__).with_name("embedding_peer.py")
    command = [python, str(script), str(fetch_demo_model(EMBEDDING))]
    output = subprocess.run(
        command, input="\n".join(texts), capture_output=True, text=True, check=True
    )
    return float(output.stdout)


@dataclass(frozen=True)
class Load:
    """A load, the servers that it is for, and whether only the node is asked.

    ``stage``: ``cut`` and ``whole`` serve the demo model, its first layers or all of it;
    ``embeddings`` is a node that has the embedding model as well.
    """

    run: Callable[[Bench], Awaitable[list[Figure]]]
    stage: Literal["cut", "whole", "embeddings"] = "cut"
    is_for_node: bool = False


LOADS = {
    "32": Load(Bench.thirty_two),  # first: its memory is that of a fresh node
    "1": Load(Bench.one),
    "4": Load(Bench.four),
    "16": Load(Bench.sixteen),
    "greedy": Load(Bench.greedy),
    "seeded": Load(Bench.seeded),
    "shared": Load(Bench.shared),
    "newcomer": Load(Bench.newcomer),
    "turn": Load(Bench.turn),
    "long": Load(Bench.long_prompt),
    "crowd": Load(Bench.crowd),
    "http": Load(Bench.http, is_for_node=True),
    "whole": Load(Bench.whole, "whole"),
    "embeddings": Load(Bench.embeddings, "embeddings", is_for_node=True),
    "chat-and-embeddings": Load(Bench.chat_beside_embeddings, "embeddings", is_for_node=True),
}
