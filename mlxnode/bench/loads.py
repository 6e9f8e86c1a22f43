"""The loads: answers that are streamed together, and texts that are embedded together."""

import asyncio
import statistics
import time
from dataclasses import dataclass

import httpx2 as httpx

from mlxnode.bench.figures import Figure, Kind, Name, quantile
from mlxnode.bench.prompts import random_words, text_prompt
from mlxnode.bench.requests import Answer, embed, stream_answer
from mlxnode.bench.servers import BenchError, Server
from mlxnode.client.events import error_text

_TEXTS = 8  # in a request for embeddings
_TEXT_WORDS = 40
_EMBEDDING_REQUESTS = 4  # of each client, one after the other
_MOST_PAUSES = 3  # for the limits of a key
_LONGEST_PAUSE = 70.0  # seconds; limits are those of a minute


@dataclass(frozen=True)
class Load:
    """How much is asked. ``max_tokens`` is that of each answer."""

    kind: Kind
    max_tokens: int
    prompt_words: int


@dataclass
class Loaded:
    """A server under one kind of load. ``ignores_end``: it generates all of ``max_tokens``."""

    server: Server
    load: Load
    ignores_end: bool = False

    async def warm_up(self) -> None:
        """Ask once, and learn whether the server can go on behind the end of an answer.

        Raises:
            BenchError: it refuses, or is not there.
        """
        async with self.server.make_client() as client:
            if self.load.kind == "chat":
                try:
                    await self._answer(client, -1, 8, {"ignore_eos": True})
                    self.ignores_end = True
                except httpx.HTTPStatusError as error:
                    if error.response.status_code not in (400, 422):
                        raise
            await self._ask(client, -2)

    async def run(self, num_clients: int, seed: int) -> list[Figure]:
        """The figures of ``num_clients`` requests at a time, with prompts of their own.

        Raises:
            BenchError: the server refuses, or is not there.
        """
        async with self.server.make_client() as client:
            started_at = time.perf_counter()
            results = await asyncio.gather(
                *(self._ask(client, seed + i) for i in range(num_clients))
            )
            seconds = time.perf_counter() - started_at
        amount = sum(count for count, _ in results)
        if self.load.kind == "embedding":
            return [self._figure(num_clients, "texts/s", amount / seconds)]
        answers = [answer for _, answer in results if answer is not None]
        ttfts = [answer.ttft for answer in answers]
        tpots = [answer.tpot for answer in answers if answer.tpot is not None]
        itls = [itl for answer in answers for itl in answer.itls()]
        figures = [
            self._figure(num_clients, "tokens/s", amount / seconds),
            self._figure(num_clients, "TTFT", 1000 * statistics.median(ttfts)),
        ]
        if tpots and itls:
            figures += [
                self._figure(num_clients, "TPOT", 1000 * statistics.median(tpots)),
                self._figure(num_clients, "ITL p95", 1000 * quantile(itls, 0.95)),
            ]
        return figures

    def _figure(self, num_clients: int, name: Name, value: float) -> Figure:
        return Figure(self.server.name, self.load.kind, num_clients, name, value)

    async def _ask(self, client: httpx.AsyncClient, seed: int) -> tuple[int, Answer | None]:
        """How many texts are embedded, or how many tokens came, and their answer."""
        if self.load.kind == "embedding":
            for i in range(_EMBEDDING_REQUESTS):
                texts = [
                    random_words(seed * 1000 + i * _TEXTS + j, _TEXT_WORDS)
                    for j in range(_TEXTS)
                ]
                await embed(client, self.server, self.server.model, texts)
            return _EMBEDDING_REQUESTS * _TEXTS, None
        more: dict[str, object] = {"ignore_eos": True} if self.ignores_end else {}
        answer = await self._answer(client, seed, self.load.max_tokens, more)
        return answer.num_tokens, answer

    async def _answer(
        self, client: httpx.AsyncClient, seed: int, max_tokens: int, more: dict[str, object]
    ) -> Answer:
        prompt = text_prompt(seed, self.load.prompt_words)
        sampling = {"temperature": 0.0, **more}
        return await stream_answer(client, self.server, prompt, max_tokens, sampling)


async def within_limits(loaded: Loaded, num_clients: int | None, seed: int) -> list[Figure]:
    """``run``, or ``warm_up`` without ``num_clients``; once more where a limit refuses it.

    Raises:
        BenchError: as these.
    """
    for _ in range(_MOST_PAUSES):
        try:
            return await _once(loaded, num_clients, seed)
        except httpx.HTTPStatusError as error:
            pause = _pause(error.response)
            if pause is None:
                raise BenchError(_why(loaded.server, error.response)) from error
            await asyncio.sleep(pause)
        except httpx.HTTPError as error:
            raise BenchError(f"{loaded.server.name}: {type(error).__name__} {error}") from error
    raise BenchError(
        f"{loaded.server.name} refuses the load by the limits of the key: use a key without "
        "limits, or fewer --clients"
    )


async def _once(loaded: Loaded, num_clients: int | None, seed: int) -> list[Figure]:
    if num_clients is not None:
        return await loaded.run(num_clients, seed)
    await loaded.warm_up()
    return []


def _pause(response: httpx.Response) -> float | None:
    if response.status_code != 429:
        return None
    try:
        pause = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return pause if 0 <= pause <= _LONGEST_PAUSE else None


def _why(server: Server, response: httpx.Response) -> str:
    try:
        text = error_text(response.json())
    except (ValueError, httpx.ResponseNotRead):
        text = None
    return f"{server.name}: {text or f'HTTP status {response.status_code}'}"
