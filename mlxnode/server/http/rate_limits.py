"""Rate limits: the worker's side of the ledger that the supervisor keeps.

A request reserves the tokens that it can use at most. When the request ends, the
reservation is settled: only the used tokens are charged.
"""

import asyncio
import contextlib
import datetime
import itertools
import math
from collections.abc import AsyncIterator, Callable

from mlxnode.messages import Limit, Message, Reserve, Reserved, Settle
from mlxnode.server.errors import RateLimited, Unavailable


class Reservation:
    """A granted reservation. The key is charged with ``tokens_used`` when it is settled."""

    def __init__(self, headers: dict[str, str]):
        self.headers = headers
        self.tokens_used = 0


class RateLimiter:
    """Reserves requests and tokens, if the configuration sets any limit."""

    def __init__(self, send: Callable[[Message], bool], *, enabled: bool):
        self._send = send
        self.enabled = enabled
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reserved]] = {}  # by ticket

    @contextlib.asynccontextmanager
    async def reserve(self, key: str, model: str, tokens: int) -> AsyncIterator[Reservation]:
        """Hold a reservation of ``tokens`` of ``model`` for ``key`` while the request runs.

        Raises:
            RateLimited: a limit is reached; the headers of the error give the time to wait.
            Unavailable: the supervisor does not read its messages fast enough.
        """
        if not self.enabled:
            yield Reservation({})
            return
        ticket = next(self._tickets)
        answer = await self._request(Reserve(ticket, key, model, tokens))
        headers = _limit_headers(answer)
        if answer.refused is not None:
            raise _refusal(answer, tokens, headers)
        reservation = Reservation(headers)
        try:
            yield reservation
        finally:
            self._send(Settle(ticket, reservation.tokens_used))

    def on_reserved(self, answer: Reserved) -> None:
        """Handle the supervisor's answer."""
        future = self._waiting.pop(answer.ticket, None)
        if future is not None and not future.cancelled():
            future.set_result(answer)
        elif answer.refused is None:
            self._send(Settle(answer.ticket, 0))  # The client has left.

    async def _request(self, message: Reserve) -> Reserved:
        future: asyncio.Future[Reserved] = asyncio.get_running_loop().create_future()
        self._waiting[message.ticket] = future
        if not self._send(message):
            del self._waiting[message.ticket]
            raise Unavailable("The server does not keep up with the requests")
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result().refused is None:
                self._send(Settle(message.ticket, 0))
            raise


def _limit_headers(answer: Reserved) -> dict[str, str]:
    """What is left, by the names that OpenAI's and Anthropic's packages know."""
    headers = {}
    now = datetime.datetime.now(datetime.UTC)
    for kind, limit in (("requests", answer.requests), ("tokens", answer.tokens)):
        if limit is not None:
            headers |= {
                f"x-ratelimit-limit-{kind}": str(limit.limit),
                f"x-ratelimit-remaining-{kind}": str(limit.remaining),
                f"x-ratelimit-reset-{kind}": format_duration(limit.reset),
                f"anthropic-ratelimit-{kind}-limit": str(limit.limit),
                f"anthropic-ratelimit-{kind}-remaining": str(limit.remaining),
                f"anthropic-ratelimit-{kind}-reset": _time(now, limit.reset),
            }
    return headers


def _time(now: datetime.datetime, seconds: float) -> str:
    """The time after ``seconds``, as RFC 3339 writes it; not before it."""
    then = now + datetime.timedelta(seconds=math.ceil(seconds))
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


def _refusal(answer: Reserved, tokens: int, headers: dict[str, str]) -> RateLimited:
    kind = answer.refused or "requests"
    bucket: Limit | None = answer.requests if kind == "requests" else answer.tokens
    limit = bucket.limit if bucket is not None else 0
    requested = 1 if kind == "requests" else tokens
    never = requested > limit
    advice = (
        "One request may not ask for more than the limit."
        if never
        else f"Try again in {format_duration(answer.retry_after)}."
    )
    error = RateLimited(
        f"Rate limit reached on {kind} per minute: "
        f"limit {limit}, requested {requested}. {advice}",
        kind=kind,
        retry_after=answer.retry_after,
        never=never,
    )
    error.headers |= headers
    return error


def format_duration(seconds: float) -> str:
    """Seconds in Go's format of durations, as in x-ratelimit-reset: 6m0s, 1.5s, 20ms."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, remaining = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{remaining / 1000:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
