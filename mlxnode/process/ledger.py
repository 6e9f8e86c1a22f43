"""How much each key may still use, in all and of each model: the owner of all rate limits.

A bucket holds at most its limit and refills by limit / 60 a second. A request reserves the
most that it can use and settles to what it did use; the rest goes back.
"""

import math
import time
from collections.abc import Callable, Hashable
from typing import Literal

from mlxnode.config.tables import ApiConfig, RateLimits
from mlxnode.messages import Limit, Reserved

Kind = Literal["requests", "tokens"]


class Bucket:
    """A token bucket (Turner 1986) on a clock in seconds."""

    def __init__(self, limit: int, now: float):
        self.limit = limit
        self._level = float(limit)
        self._updated = now

    def take(self, amount: float, now: float) -> None:
        """Take ``amount``; a negative one gives back, never above the limit."""
        self._level = min(self.level(now) - amount, float(self.limit))
        self._updated = now

    def level(self, now: float) -> float:
        return min(self.limit, self._level + (now - self._updated) * self.limit / 60)

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there; infinite beyond the limit."""
        if amount > self.limit:
            return math.inf
        return max(0.0, (amount - self.level(now)) * 60 / self.limit)

    def snapshot(self, now: float) -> Limit:
        level = self.level(now)
        remaining = max(0, int(level + 1e-9))
        return Limit(self.limit, remaining, (self.limit - level) * 60 / self.limit)


class Ledger:
    """Buckets of every key, and the reservations that are not settled yet.

    A key has the limits of its ``[api.keys.<name>]``, else those of ``[api]``. Where a model
    has limits, every key has buckets for that model as well, and a request needs room in all.

    ``holder`` is whoever reserves (a worker's generation): what it left unsettled when it
    died counts as used, for nobody knows how much of it was.
    """

    def __init__(self, api: ApiConfig, clock: Callable[[], float] = time.monotonic):
        self._api = api
        self._clock = clock
        # By key, model (None: all together) and kind; both are names of the configuration.
        self._buckets: dict[tuple[str, str | None, Kind], Bucket] = {}
        self._open: dict[tuple[Hashable, int], tuple[list[Bucket], int]] = {}

    def reserve(
        self, holder: Hashable, ticket: int, key: str, model: str, tokens: int
    ) -> Reserved:
        """Take one request and ``tokens`` tokens from ``key``'s buckets, or nothing at all.

        The answer tells, of each kind, the bucket that is nearest to its end. A request
        larger than a whole token limit is refused with a ``retry_after`` of 0: no waiting
        will help.
        """
        now = self._clock()
        amounts: dict[Kind, int] = {"requests": 1, "tokens": tokens}
        buckets = {kind: self._buckets_of(key, model, kind, now) for kind in amounts}
        tightest = {
            kind: max(buckets[kind], key=lambda b: (b.wait_for(amount, now), -b.level(now)))
            for kind, amount in amounts.items()
            if buckets[kind]
        }
        waits = {kind: tightest[kind].wait_for(amounts[kind], now) for kind in tightest}
        refused = max(waits, key=waits.__getitem__) if any(waits.values()) else None
        if refused is None:
            for kind, amount in amounts.items():
                for bucket in buckets[kind]:
                    bucket.take(amount, now)
            if buckets["tokens"]:
                self._open[holder, ticket] = (buckets["tokens"], tokens)
        wait = waits[refused] if refused else 0.0
        limits = {kind: bucket.snapshot(now) for kind, bucket in tightest.items()}
        return Reserved(
            ticket=ticket,
            refused=refused,
            retry_after=wait if math.isfinite(wait) else 0.0,
            requests=limits.get("requests"),
            tokens=limits.get("tokens"),
        )

    def settle(self, holder: Hashable, ticket: int, tokens: int) -> None:
        """Give back what a granted ticket did not use. A second time does nothing."""
        buckets, reserved = self._open.pop((holder, ticket), ([], 0))
        for bucket in buckets:
            bucket.take(tokens - reserved, self._clock())

    def forget(self, holder: Hashable) -> None:
        """Drop the open tickets of a holder that died."""
        for entry in [entry for entry in self._open if entry[0] == holder]:
            del self._open[entry]

    def _buckets_of(self, key: str, model: str, kind: Kind, now: float) -> list[Bucket]:
        """All that a request of ``key`` to ``model`` takes from."""
        of_key = _limit(self._api.keys.get(key), kind) or _limit(self._api, kind)
        of_model = _limit(self._api.models.get(model), kind)
        buckets = []
        for limit, place in ((of_key, (key, None, kind)), (of_model, (key, model, kind))):
            if limit is not None:
                if place not in self._buckets:
                    self._buckets[place] = Bucket(limit, now)
                buckets.append(self._buckets[place])
        return buckets


def _limit(table: RateLimits | None, kind: Kind) -> int | None:
    return getattr(table, f"max_{kind}_per_minute", None)
