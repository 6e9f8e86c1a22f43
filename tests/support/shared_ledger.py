"""The limits in a real Redis, with the calls of a ledger and the clock of a test."""

import queue
import threading
from collections.abc import Collection, Hashable

import redis

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.config.tables import ApiConfig
from mlxnode.messages.control import Reserve, Reserved, Settle, Used
from mlxnode.process.redis_buckets import SCRIPT, Command, RedisBuckets
from mlxnode.process.shared_limits import SharedLimits

WAIT = 30.0  # seconds; only a failing test waits that long
# Redis reads a key instead of its clock; the rest of the script is as users have it.
_CLOCK = "redis.call('TIME')"
assert SCRIPT.count(_CLOCK) == 1
CLOCKED_SCRIPT = SCRIPT.replace(_CLOCK, "{tonumber(redis.call('GET', 'clock')), 0}")


class SharedLedger:
    """Waits for each answer of a ``SharedLimits``."""

    def __init__(
        self, url: str, api: ApiConfig, script: str = SCRIPT, prefix: str = "test", **settings
    ):
        told = SharedLimitsConfig.model_validate(
            {"redis": url, "prefix": prefix, "timeout": WAIT} | settings
        )
        self.limits = SharedLimits(api, told, RedisBuckets(url, prefix, script))
        self._answers: queue.Queue[Reserved] = queue.Queue()
        self.limits.open()

    def reserve(
        self,
        holder: Hashable,
        ticket: int,
        key: str,
        model: str,
        tokens: int,
        expected: int = 0,
    ) -> Reserved:
        self.send(holder, Reserve(ticket, key, model, tokens, expected))
        return self.answer()

    def send(self, holder: Hashable, message: Reserve | Used | Settle) -> None:
        self.limits.take(holder, message, self._answers.put)

    def answer(self) -> Reserved:
        return self._answers.get(timeout=WAIT)

    def use(self, holder: Hashable, ticket: int, tokens: int) -> None:
        self.send(holder, Used(ticket, tokens))

    def settle(self, holder: Hashable, ticket: int, tokens: int) -> None:
        self.send(holder, Settle(ticket, tokens))

    def replace(self, api: ApiConfig, keys: Collection[str]) -> None:
        self.limits.replace(api, keys)

    def forget(self, holder: Hashable) -> None:
        self.limits.forget(holder)

    def wait_until_all_is_counted(self) -> None:
        """All that was sent before is in Redis then."""
        counted = threading.Event()

        def order() -> list[Command]:
            counted.set()
            return []

        self.limits._post(order)
        assert counted.wait(WAIT)

    def wait_until_reachable(self) -> "SharedLedger":
        """Requests are counted in Redis from now on."""
        assert self.when_reachable().wait(WAIT)
        return self

    def when_reachable(self) -> threading.Event:
        """Set once Redis answers."""
        reachable = threading.Event()

        def order() -> list[Command]:
            looking = self.limits._looking
            assert looking is not None
            looking.add_done_callback(lambda _: reachable.set())
            return []

        self.limits._post(order)
        return reachable

    def close(self) -> None:
        self.limits.close()


class RedisClock:
    """The clock of a test, which Redis reads, and the ledgers on it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.client = redis.Redis.from_url(url)
        self.client.flushall()
        self._ledgers: list[SharedLedger] = []
        self.now = 1000.0

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        for ledger in self._ledgers:
            ledger.wait_until_all_is_counted()
        self._now = now
        self.client.set("clock", repr(now))

    def ledger_of(self, api: ApiConfig) -> SharedLedger:
        ledger = SharedLedger(self._url, api, CLOCKED_SCRIPT)
        self._ledgers.append(ledger)
        return ledger.wait_until_reachable()

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()
        self.client.close()
