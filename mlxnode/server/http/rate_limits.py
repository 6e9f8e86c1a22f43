"""Rate limits: the worker's side of the ledger that the supervisor keeps.

A request reserves the tokens of its prompt, and of an answer of usual length. If the answer is
longer, the ledger learns it while it grows. When the request ends, the reservation is settled:
only the used tokens are charged.
"""

import asyncio
import contextlib
import datetime
import itertools
import math
from collections.abc import AsyncIterator, Callable

from mlxnode.messages.control import Reserve, Reserved, Settle, Used
from mlxnode.messages.message import Message
from mlxnode.server.errors import ApiError, InvalidRequest, RateLimited, Unavailable

_REPORT_EVERY = 256  # tokens; what a key can use before the ledger knows is then small


class Reservation:
    """A granted reservation. The key is charged with ``tokens_used`` when it is settled."""

    def __init__(self, headers: dict[str, str], known: int, report: Callable[[int], object]):
        """``report`` tells the ledger of used tokens; it has reserved the first ``known``."""
        self.headers = headers
        self.tokens_used = 0
        self._reported = known
        self._report = report

    def use(self, tokens: int) -> None:
        """The request has used ``tokens`` so far."""
        self.tokens_used = tokens
        if tokens >= self._reported + _REPORT_EVERY:
            self._reported = tokens
            self._report(tokens)


class RateLimiter:
    """Reserves requests and tokens, if the configuration sets any limit."""

    def __init__(self, send: Callable[[Message], bool], *, enabled: bool):
        self._send = send
        self.enabled = enabled
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reserved]] = {}  # by ticket

    @contextlib.asynccontextmanager
    async def reserve(
        self, key: str, model: str, tokens: int, expected: int = 0, *, is_limited: bool = True
    ) -> AsyncIterator[Reservation]:
        """Hold a reservation of tokens of ``model`` for ``key`` while the request runs.

        The request uses ``tokens`` tokens in any case, and probably ``expected`` more. Without
        ``is_limited`` it counts towards no limit, and nothing is reserved.

        Raises:
            RateLimited: a limit is reached; the headers of the error give the time to wait.
            InvalidRequest: ``tokens`` is above a limit, so that no wait can help.
            Unavailable: the supervisor does not read its messages fast enough, or the limits
                that several nodes share cannot be read.
        """
        if not (self.enabled and is_limited):
            yield Reservation({}, 0, lambda used: None)
            return
        ticket = next(self._tickets)
        answer = await self._request(Reserve(ticket, key, model, tokens, expected))
        headers = _limit_headers(answer)
        if answer.refused is not None:
            raise _refusal(answer, tokens, headers)
        reservation = Reservation(headers, tokens, lambda used: self._send(Used(ticket, used)))
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


def _refusal(answer: Reserved, tokens: int, headers: dict[str, str]) -> ApiError:
    if answer.refused == "unreachable":
        return Unavailable(
            "The rate limits of this node are counted with those of other nodes, and their "
            "store does not answer. Try again soon."
        )
    kind = answer.refused or "requests"
    bucket = answer.requests if kind == "requests" else answer.tokens
    limit = bucket.limit if bucket is not None else 0
    error: ApiError
    if answer.retry_after is None:
        error = InvalidRequest(
            f"This request has {tokens} tokens, and the limit is {limit} tokens per minute "
            "(max_tokens_per_minute): no wait makes room for it. Please shorten it.",
            code="rate_limit_too_low",
        )
    else:
        wanted = "" if kind == "requests" else f", the request has {tokens}"
        error = RateLimited(
            f"Rate limit reached on {kind} per minute: limit {limit}{wanted}. "
            f"Try again in {format_duration(answer.retry_after)}.",
            kind=kind,
            retry_after=answer.retry_after,
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
