"""The rate limits of all keys, in one owner: the supervisor.

A bucket holds at most its limit and refills by limit / 60 per second. A request reserves the
tokens that it uses in any case, its prompt, and those of an answer of usual length. A longer
answer takes the others while it grows, even from an empty bucket. Settling the reservation
releases the tokens that the request did not use.

A running answer is never ended for a rate limit: its client would lose what it has paid for. So
the level of a bucket can be negative. The key pays with time: it is granted nothing more until
the bucket has refilled to what the next request needs. Over time, a key gets no more than its
limit, and other keys have buckets of their own.
"""

import math
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mlxnode.config.tables import ApiConfig, RateLimits
from mlxnode.messages.control import Limit, Reserved

Kind = Literal["requests", "tokens"]


class BucketName(NamedTuple):
    """Whose bucket it is. ``model`` None: all models together."""

    key: str
    model: str | None
    kind: Kind


class Bucket:
    """A token bucket (Turner 1986) on a clock in seconds."""

    def __init__(self, name: BucketName, limit: int, now: float):
        self.name = name
        self.limit = limit
        self._level = float(limit)
        self._updated = now

    def take(self, amount: float, now: float) -> None:
        """Take ``amount``. A negative amount refills the bucket, at most to the limit."""
        self._level = min(self.level(now) - amount, float(self.limit))
        self._updated = now

    def level(self, now: float) -> float:
        return min(self.limit, self._level + (now - self._updated) * self.limit / 60)

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until the bucket holds ``amount``; infinite above the limit."""
        if amount > self.limit:
            return math.inf
        return max(0.0, (amount - self.level(now)) * 60 / self.limit)

    def set_level(self, level: float, now: float) -> None:
        """Hold ``level`` now, as another store of this bucket says."""
        self._level, self._updated = level, now

    def set_limit(self, limit: int, now: float) -> None:
        """Hold at most ``limit`` from now on. What has been taken stays taken."""
        self._level, self._updated = self.level(now) - self.limit + limit, now
        self.limit = limit

    def snapshot(self, now: float) -> Limit:
        level = self.level(now)
        remaining = max(0, int(level + 1e-9))
        return Limit(self.limit, remaining, (self.limit - level) * 60 / self.limit)


@dataclass
class Claim:
    """The amount of one kind that a request takes from each of ``buckets``.

    The first bucket is the one closest to its end, before the request takes anything.
    """

    kind: Kind
    amount: int
    buckets: list[Bucket]

    def wait(self, now: float) -> float:
        """Seconds until every bucket holds the amount; infinite above a limit."""
        return self.buckets[0].wait_for(self.amount, now) if self.buckets else 0.0

    def take(self, now: float) -> None:
        for bucket in self.buckets:
            bucket.take(self.amount, now)

    def change(self, amount: int, now: float) -> int:
        """Replace the amount that was taken by ``amount``; returns how much more that is."""
        more = amount - self.amount
        for bucket in self.buckets:
            bucket.take(more, now)
        self.amount = amount
        return more

    def snapshot(self, now: float) -> Limit | None:
        """The state of the first bucket; None without a limit."""
        return self.buckets[0].snapshot(now) if self.buckets else None


class Ledger:
    """The buckets of every key, and the reservations that are not settled yet.

    A key has the limits of its ``[api.keys.<name>]``, else those of ``[api]``. If a model has
    limits, every key has buckets for that model too, and a request needs room in all of them.

    A ``holder`` makes reservations: it is one incarnation of a worker. The tokens that a dead
    holder did not settle count as used, because nobody knows how many of them were used.
    """

    def __init__(self, api: ApiConfig, clock: Callable[[], float] = time.monotonic):
        self._api = api
        self._clock = clock
        # Models and named keys come from the configuration: the number of buckets is bounded.
        self._buckets: dict[BucketName, Bucket] = {}
        self._reservations: dict[tuple[Hashable, int], Claim] = {}  # by holder and ticket

    def reserve(
        self,
        holder: Hashable,
        ticket: int,
        key: str,
        model: str,
        tokens: int,
        expected: int = 0,
    ) -> Reserved:
        """Take one request and its tokens from ``key``'s buckets, or nothing at all.

        Its tokens are ``tokens`` and as many of the ``expected`` ones as a full bucket has
        room for beside them. The answer reports, for each kind, the bucket that is closest to
        its end. A request with ``tokens`` above a whole limit is refused for ever.
        """
        now = self._clock()
        request_claim, token_claim = self.claims(key, model, tokens, expected)
        longest = max(request_claim, token_claim, key=lambda claim: claim.wait(now))
        wait = longest.wait(now)
        if wait == 0:
            request_claim.take(now)
            token_claim.take(now)
            if token_claim.buckets:
                self._reservations[holder, ticket] = token_claim
        return Reserved(
            ticket=ticket,
            refused=longest.kind if wait > 0 else None,
            retry_after=wait if math.isfinite(wait) else None,
            requests=request_claim.snapshot(now),
            tokens=token_claim.snapshot(now),
        )

    @property
    def buckets(self) -> Collection[Bucket]:
        """Those that requests have used."""
        return self._buckets.values()

    def claims(self, key: str, model: str, tokens: int, expected: int) -> tuple[Claim, Claim]:
        """The requests and the tokens that ``reserve`` would take; nothing is taken."""
        now = self._clock()
        return (
            self._claim("requests", 1, 0, key, model, now),
            self._claim("tokens", tokens, expected, key, model, now),
        )

    def use(self, holder: Hashable, ticket: int, tokens: int) -> int:
        """Take what a running request has used beyond its reservation so far.

        Returns the tokens that this takes from each bucket.
        """
        claim = self._reservations.get((holder, ticket))
        if claim is None or tokens <= claim.amount:
            return 0
        return claim.change(tokens, self._clock())

    def settle(self, holder: Hashable, ticket: int, tokens: int) -> int:
        """Release the tokens that a granted ticket did not use. Settling twice does nothing.

        Returns the tokens that this takes from each bucket: below 0 if it releases some.
        """
        claim = self._reservations.pop((holder, ticket), None)
        return 0 if claim is None else claim.change(tokens, self._clock())

    def replace(self, api: ApiConfig, keys: Collection[str]) -> None:
        """Apply the limits of ``api`` from now on. ``keys`` are the ids of all keys."""
        self._api = api
        now = self._clock()
        for name, bucket in list(self._buckets.items()):
            limit = self._limit_of(name)
            if limit is None or name.key not in keys:
                del self._buckets[name]
            else:
                bucket.set_limit(limit, now)

    def forget(self, holder: Hashable) -> None:
        """Drop the reservations of a dead holder."""
        for name in [name for name in self._reservations if name[0] == holder]:
            del self._reservations[name]

    def _claim(
        self, kind: Kind, amount: int, expected: int, key: str, model: str, now: float
    ) -> Claim:
        """The claim of a request of ``key`` to ``model``, on the buckets of both."""
        names = (BucketName(key, None, kind), BucketName(key, model, kind))
        buckets = [
            self._buckets.setdefault(name, Bucket(name, limit, now))
            for name in names
            if (limit := self._limit_of(name)) is not None
        ]
        room = min((bucket.limit - amount for bucket in buckets), default=0)
        amount += max(min(expected, room), 0)
        buckets.sort(key=lambda b: (b.wait_for(amount, now), -b.level(now)), reverse=True)
        return Claim(kind, amount, buckets)

    def _limit_of(self, name: BucketName) -> int | None:
        key, model, kind = name
        if model is not None:
            return _limit(self._api.models.get(model), kind)
        return _limit(self._api.keys.get(key), kind) or _limit(self._api, kind)


def _limit(table: RateLimits | None, kind: Kind) -> int | None:
    if table is None:
        return None
    if kind == "requests":
        return table.max_requests_per_minute
    return table.max_tokens_per_minute
