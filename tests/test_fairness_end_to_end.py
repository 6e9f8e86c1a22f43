"""One client's flood is not another's wait: a whole node, and answers that are counted."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

ROWS = 8
QUEUE = 32
FLOOD = 32  # requests, or prompts of one request
LONG, SHORT = 50, 10  # tokens of an answer
CONFIG = f"""
[api]
address = "127.0.0.1:0"
[api.keys.flood]
key = "sk-flood"
[api.keys.other]
key = "sk-other"
[api.keys.job]
key = "sk-job"
priority = 10
[api.keys.chief]
key = "sk-chief"
allow_priority = true
[api.models.tiny]
path = "model"
type = "completion"
[server]
workers = 2
[engine]
max_batch_size = {ROWS}
max_queue_size = {QUEUE}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "model")
    with NodeProcess(folder, CONFIG) as node:
        node.wait_ready(600)
        yield node


@pytest.fixture
async def client(node) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=node.url, limits=limits, timeout=300) as client:
        yield client


async def ask(client: httpx.AsyncClient, key: str, max_tokens: int, **fields) -> httpx.Response:
    body = {
        "model": "tiny",
        "prompt": "abc",
        "max_tokens": max_tokens,
        "ignore_eos": True,
        **fields,
    }
    return await client.post(
        "/v1/completions", json=body, headers={"authorization": f"Bearer {key}"}
    )


class Ended:
    """How many answers of a flood have ended."""

    def __init__(self) -> None:
        self.count = 0
        self.first = asyncio.Event()

    def add(self) -> None:
        self.count += 1
        self.first.set()


async def many_requests(client: httpx.AsyncClient, ended: Ended, key: str) -> None:
    async def one() -> None:
        answer = await ask(client, key, LONG)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == LONG
        ended.add()

    await asyncio.gather(*(one() for _ in range(FLOOD)))


async def one_request(client: httpx.AsyncClient, ended: Ended, key: str) -> None:
    """One request with many prompts, as a stream, of which the ends are counted."""
    body = {
        "model": "tiny",
        "prompt": [f"number {i}" for i in range(FLOOD)],
        "max_tokens": LONG,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"authorization": f"Bearer {key}"}
    async with client.stream("POST", "/v1/completions", json=body, headers=headers) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    if choice["finish_reason"] is not None:
                        ended.add()


@pytest.mark.long
@pytest.mark.parametrize(
    ("flood", "keys"),
    [
        (many_requests, ("sk-flood", "sk-other")),
        (one_request, ("sk-flood", "sk-other")),
        (one_request, ("sk-flood", "sk-flood")),
        (many_requests, ("sk-job", "sk-other")),
    ],
)
async def test_a_flood_of_one_key_is_not_the_wait_of_another(client, flood, keys):
    """A short answer is over before two long ones of each row are."""
    ended = Ended()
    running = asyncio.create_task(flood(client, ended, keys[0]))
    await asyncio.wait_for(ended.first.wait(), 200)
    before = ended.count
    answer = await ask(client, keys[1], SHORT)
    assert answer.status_code == 200, answer.text
    assert ended.count - before <= 2 * ROWS
    assert ended.count < FLOOD
    await running
    assert ended.count == FLOOD


async def test_an_answer_without_a_limit_lets_others_in(tmp_path):
    """It may become longer than the memory holds, and its client reads it as a stream."""
    tiny.make_chat_model(tmp_path / "model", context=16_384)
    config = CONFIG + "kv_cache_gb = 0.004\n"
    body = {"model": "tiny", "prompt": "abc", "ignore_eos": True, "stream": True}
    headers = {"authorization": "Bearer sk-flood"}
    with NodeProcess(tmp_path, config) as node:
        node.wait_ready(600)
        async with (
            httpx.AsyncClient(base_url=node.url, timeout=300) as client,
            client.stream(
                "POST", "/v1/completions", json=body | {"max_tokens": 16_000}, headers=headers
            ) as stream,
        ):
            lines = stream.aiter_lines()
            await anext(lines)
            rest = asyncio.create_task(_read_to_the_end(lines))
            others = await asyncio.gather(*(ask(client, "sk-other", SHORT) for _ in range(4)))
            assert [answer.status_code for answer in others] == [200] * 4
            assert not rest.done()
            rest.cancel()


async def _read_to_the_end(lines: AsyncIterator[str]) -> None:
    async for _ in lines:
        pass


@pytest.mark.long
@pytest.mark.parametrize("size", [30_000, 200_000])
async def test_large_bodies_of_one_key_are_not_the_wait_of_another(client, size):
    """They are read and tokenized in turns of the keys, by two workers."""
    ended = Ended()

    async def tokenize(key: str, size: int) -> None:
        answer = await client.post(
            "/tokenize",
            json={"model": "tiny", "prompt": "one two " * (size // 8)},
            headers={"authorization": f"Bearer {key}"},
        )
        assert answer.status_code in (200, 400), answer.text  # too many tokens, at the end
        ended.add()

    flood = [asyncio.create_task(tokenize("sk-flood", 200_000)) for _ in range(2 * FLOOD)]
    await asyncio.wait_for(ended.first.wait(), 200)
    before = ended.count
    await tokenize("sk-other", size)
    assert ended.count - before < FLOOD
    await asyncio.gather(*flood)


async def test_a_key_that_fills_the_queue_is_refused_alone(client):
    async def one() -> httpx.Response:
        return await ask(client, "sk-flood", LONG)

    flood = [asyncio.create_task(one()) for _ in range(3 * QUEUE)]
    await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    others = await asyncio.gather(*(ask(client, "sk-other", SHORT) for _ in range(QUEUE // 4)))
    assert {answer.status_code for answer in others} == {200}
    answers = [await task for task in flood]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) + sum(answer.status_code == 200 for answer in answers) == len(flood)
    assert refused
    for answer in refused:
        error = answer.json()["error"]
        assert error["code"] == "server_is_overloaded"
        assert "already waiting" in error["message"] and "0.00" not in error["message"]
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("key", "priority", "status"),
    [
        ("sk-other", None, 200),
        ("sk-other", 0, 200),
        ("sk-other", 5, 200),
        ("sk-other", 10**30, 200),
        ("sk-other", "high", 200),
        ("sk-other", True, 200),
        ("sk-other", -1, 400),
        ("sk-other", -(10**30), 400),
        ("sk-other", -0.5, 400),
        ("sk-job", -1, 400),
        ("sk-chief", -1, 200),
        ("sk-chief", -(10**30), 200),
    ],
)
async def test_a_request_goes_before_others_only_if_its_key_may(client, key, priority, status):
    answer = await ask(client, key, 2, priority=priority)
    assert answer.status_code == status, answer.text
    ignored = answer.headers.get("x-mlxnode-ignored")
    assert ignored == ("priority" if priority in ("high", True) else None)
    if status == 400:
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == ("priority", "priority_not_allowed")
