"""Rate limits: the worker's side of the ledger that the supervisor keeps.

A request reserves all that it may use, and gives back the rest when it is over.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable

from mlxnode.messages import Limit, Message, Reserve, Reserved, Settle
from mlxnode.server.errors import RateLimited, Unavailable


class Reservation:
    """A granted request; ``tokens_used`` is what it will be charged with."""

    def __init__(self, headers: dict[str, str]):
        self.headers = headers
        self.tokens_used = 0


class Limits:
    """Asks the supervisor for leave, if the configuration sets any limit."""

    def __init__(self, send: Callable[[Message], bool], *, enabled: bool):
        self._send = send
        self.enabled = enabled
        self._tickets = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Reserved]] = {}

    @contextlib.asynccontextmanager
    async def reserve(self, key: str, model: str, tokens: int) -> AsyncIterator[Reservation]:
        """Hold a reservation of ``tokens`` of ``model`` for ``key`` while the request runs.

        Raises:
            RateLimited: refused; the error carries the headers that say when to return.
            Unavailable: the supervisor does not keep up.
        """
        if not self.enabled:
            yield Reservation({})
            return
        ticket = next(self._tickets)
        answer = await self._ask(Reserve(ticket, key, model, tokens))
        headers = _limit_headers(answer)
        if answer.refused is not None:
            raise _refusal(answer, tokens, headers)
        reservation = Reservation(headers)
        try:
            yield reservation
        finally:
            self._send(Settle(ticket, reservation.tokens_used))

    def on_reserved(self, answer: Reserved) -> None:
        """Take the supervisor's answer."""
        future = self._asked.pop(answer.ticket, None)
        if future is not None and not future.cancelled():
            future.set_result(answer)
        elif answer.refused is None:
            self._send(Settle(answer.ticket, 0))  # Granted to a client that has left.

    async def _ask(self, message: Reserve) -> Reserved:
        future: asyncio.Future[Reserved] = asyncio.get_running_loop().create_future()
        self._asked[message.ticket] = future
        if not self._send(message):
            del self._asked[message.ticket]
            raise Unavailable("The server does not keep up with the requests")
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result().refused is None:
                self._send(Settle(message.ticket, 0))
            raise


def _limit_headers(answer: Reserved) -> dict[str, str]:
    headers = {}
    for kind, limit in (("requests", answer.requests), ("tokens", answer.tokens)):
        if limit is not None:
            headers |= {
                f"x-ratelimit-limit-{kind}": str(limit.limit),
                f"x-ratelimit-remaining-{kind}": str(limit.remaining),
                f"x-ratelimit-reset-{kind}": format_duration(limit.reset),
            }
    return headers


def _refusal(answer: Reserved, tokens: int, headers: dict[str, str]) -> RateLimited:
    kind = answer.refused or "requests"
    bucket: Limit | None = answer.requests if kind == "requests" else answer.tokens
    limit = bucket.limit if bucket is not None else 0
    asked = 1 if kind == "requests" else tokens
    never = asked > limit
    advice = (
        "One request may not ask for more than the limit."
        if never
        else f"Try again in {format_duration(answer.retry_after)}."
    )
    error = RateLimited(
        f"Rate limit reached on {kind} per minute: limit {limit}, requested {asked}. {advice}",
        kind=kind,
        retry_after=answer.retry_after,
        never=never,
    )
    error.headers |= headers
    return error


def format_duration(seconds: float) -> str:
    """Seconds as Go prints a duration, the format of x-ratelimit-reset: 6m0s, 1.5s, 20ms."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
