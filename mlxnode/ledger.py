"""How much each key may still use: the one owner of all rate limits.

A bucket holds at most its limit and refills by limit / 60 a second. A request reserves the
most that it can use and settles to what it did use; the rest goes back.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mlxnode.messages import Limit, Reserved

# Beyond this many keys, those whose buckets are full again are forgotten.
MAX_IDLE_KEYS = 1024


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
        """Seconds until ``amount`` is there."""
        return max(0.0, (amount - self.level(now)) * 60 / self.limit)

    def snapshot(self, now: float) -> Limit:
        level = self.level(now)
        remaining = max(0, int(level + 1e-9))
        return Limit(self.limit, remaining, (self.limit - level) * 60 / self.limit)


@dataclass
class Account:
    """The buckets of one key; None where there is no limit."""

    requests: Bucket | None
    tokens: Bucket | None


class Ledger:
    """Buckets of every key, and the reservations that are not settled yet.

    ``holder`` is whoever reserves (a worker's generation): what it left unsettled when it
    died counts as used, for nobody knows how much of it was.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._open: dict[tuple[Hashable, int], tuple[Account, int]] = {}

    def reserve(self, holder: Hashable, ticket: int, key: str, tokens: int) -> Reserved:
        """Take one request and ``tokens`` tokens from ``key``'s buckets, or nothing at all.

        A request larger than the whole token limit is refused with a ``retry_after`` of 0:
        no waiting will help.
        """
        now = self._clock()
        account = self._account(key, now)
        refused, wait = None, 0.0
        if account.requests and (wait := account.requests.wait_for(1, now)) > 0:
            refused = "requests"
        elif account.tokens and (wait := account.tokens.wait_for(tokens, now)) > 0:
            refused = "tokens"
            wait = 0.0 if tokens > account.tokens.limit else wait
        else:
            if account.requests:
                account.requests.take(1, now)
            if account.tokens:
                account.tokens.take(tokens, now)
                self._open[holder, ticket] = (account, tokens)
        return Reserved(
            ticket=ticket,
            refused=refused,
            retry_after=wait,
            requests=account.requests and account.requests.snapshot(now),
            tokens=account.tokens and account.tokens.snapshot(now),
        )

    def settle(self, holder: Hashable, ticket: int, tokens: int) -> None:
        """Give back what a granted ticket did not use. A second time does nothing."""
        account, reserved = self._open.pop((holder, ticket), (None, 0))
        if account is not None and account.tokens is not None:
            account.tokens.take(tokens - reserved, self._clock())

    def forget(self, holder: Hashable) -> None:
        """Drop the open tickets of a holder that died."""
        for entry in [entry for entry in self._open if entry[0] == holder]:
            del self._open[entry]

    def _account(self, key: str, now: float) -> Account:
        if key not in self._accounts:
            if len(self._accounts) >= MAX_IDLE_KEYS:
                self._drop_idle(now)
            limits = (self._requests_per_minute, self._tokens_per_minute)
            self._accounts[key] = Account(*(n and Bucket(n, now) for n in limits))
        return self._accounts[key]

    def _drop_idle(self, now: float) -> None:
        busy = {id(account) for account, _ in self._open.values()}
        for key, account in list(self._accounts.items()):
            buckets = [b for b in (account.requests, account.tokens) if b is not None]
            if id(account) not in busy and all(b.level(now) >= b.limit for b in buckets):
                del self._accounts[key]
