"""Mixed load on a node: all endpoints, streams, clients that leave, refused requests."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx2 as httpx
from fuzz.bodies import CHAT, EMBEDDING, MAKERS, RERANK

CLIENTS = 12
TIMEOUT = 60.0


class Load:
    """Clients that work until they are stopped. ``outcomes`` counts what they got."""

    def __init__(self, url: str, key: str, seed: int):
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}
        self._seed = seed
        self._stopped = asyncio.Event()
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> None:
        """Work until ``stop``; the requests that run then end."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))

    def stop(self) -> None:
        self._stopped.set()

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        while not self._stopped.is_set():
            async with httpx.AsyncClient(
                base_url=self._url, headers=self._headers, timeout=TIMEOUT
            ) as client:
                for _ in range(rng.randint(1, 20)):
                    if self._stopped.is_set():
                        return
                    kind, work = rng.choice(_KINDS)
                    self.outcomes[f"{kind} {await work(client, rng)}"] += 1


async def _stream(client: httpx.AsyncClient, rng: random.Random) -> str:
    body = _chat(rng, stream=True)
    leaves_after = rng.choice((None, None, 0, 1, 10))
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        count, last = 0, ""
        if leaves_after == 0:
            return "left"
        async for line in answer.aiter_lines():
            count, last = count + bool(line), line or last
            if count == leaves_after:
                return "left"
    if answer.status_code == 200:
        assert last == "data: [DONE]", last
    return str(answer.status_code)


async def _generated(client: httpx.AsyncClient, rng: random.Random) -> str:
    path, make = rng.choice(list(MAKERS.items()))
    headers = {"content-type": "application/json"}
    answer = await client.post(path, content=json.dumps(make(rng)), headers=headers)
    return str(answer.status_code)


async def _long(client: httpx.AsyncClient, rng: random.Random) -> str:
    answer = await client.post("/v1/chat/completions", json=_chat(rng, max_tokens=200, n=2))
    return str(answer.status_code)


async def _vectors(client: httpx.AsyncClient, rng: random.Random) -> str:
    texts = [f"text {rng.random()}" for _ in range(64)]
    answer = await client.post("/v1/embeddings", json={"model": EMBEDDING, "input": texts})
    return str(answer.status_code)


async def _ranking(client: httpx.AsyncClient, rng: random.Random) -> str:
    documents = [f"text {number}" for number in range(16)]
    body = {"model": RERANK, "query": "where?", "documents": documents}
    return str((await client.post("/v1/rerank", json=body)).status_code)


async def _refused(client: httpx.AsyncClient, rng: random.Random) -> str:
    content = rng.choice((b"{", b'{"model": "none"}', json.dumps({"model": CHAT}).encode()))
    headers = rng.choice(({}, {"authorization": "Bearer wrong"}))
    answer = await client.post("/v1/chat/completions", content=content, headers=headers)
    return str(answer.status_code)


def _chat(rng: random.Random, **options: object) -> dict:
    turns = [{"role": "system", "content": rng.choice(("Be short. " * 20, "Be kind."))}]
    turns.append({"role": "user", "content": f"number {rng.randrange(10**6)} " * 5})
    return {"model": CHAT, "messages": turns, "max_tokens": rng.randint(1, 60)} | options


_KINDS: list[tuple[str, Callable[[httpx.AsyncClient, random.Random], Awaitable[str]]]] = [
    ("stream", _stream),
    ("stream", _stream),
    ("generated", _generated),
    ("long", _long),
    ("vectors", _vectors),
    ("ranking", _ranking),
    ("refused", _refused),
]
