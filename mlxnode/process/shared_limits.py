"""Rate limits that several nodes count together, in Redis.

A thread talks with Redis, so that the supervisor's loop waits for no network. All that has come
while Redis answered the last commands is sent at once.

The ledger of this process gets each level that Redis reports. While Redis does not answer, it
goes on from there, alone. Redis learns nothing of that time afterwards: in the worst case each
node has granted a whole limit meanwhile, and tokens that were reserved in Redis before count as
used.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.config.tables import ApiConfig
from mlxnode.messages.control import Reserve, Reserved, Settle, Used
from mlxnode.process.ledger import Claim, Ledger
from mlxnode.process.limit_store import Answer, Claiming
from mlxnode.process.redis_buckets import Command, Part, Taken

log = logging.getLogger("mlxnode.supervisor")

TRY_AGAIN = 1.0  # seconds between two looks at a Redis that does not answer
_MAX_BATCH = 256  # commands in one round trip, so that none waits long for its answer
_END_TIMEOUT = 2.0  # seconds for the thread to end


class Buckets(Protocol):
    """What ``RedisBuckets`` does."""

    where: str

    async def probe(self) -> None: ...

    async def run(self, commands: list[Command]) -> list[Taken]: ...

    async def close(self) -> None: ...


@dataclass
class _Item:
    holder: Hashable
    message: Claiming
    answer: Answer
    claims: tuple[Claim, ...] = ()  # of a Reserve


# Done after all that came before; returns what Redis has to do.
_Order = Callable[[], list[Command]]


class SharedLimits:
    """Buckets in Redis, and a ledger for the time when Redis does not answer."""

    def __init__(self, api: ApiConfig, settings: SharedLimitsConfig, buckets: Buckets):
        self.is_reachable: bool | None = False
        self._settings = settings
        self._buckets = buckets
        self._moment = time.monotonic()  # one for all that is done with an answer
        self._ledger = Ledger(api, clock=lambda: self._moment)
        # What granted tickets have taken in Redis; the others were granted by this node alone.
        self._taken: dict[tuple[Hashable, int], list[Part]] = {}
        self._is_gone_told = False
        self._loop = asyncio.new_event_loop()
        self._inbox: deque[_Item | _Order | None] = deque()  # None: the end
        self._has_new = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="shared limits", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.ident is None:
            self._loop.close()
            return
        self._post(None)
        self._thread.join(_END_TIMEOUT)

    def take(self, holder: Hashable, message: Claiming, answer: Answer) -> None:
        self._post(_Item(holder, message, answer))

    def replace(self, api: ApiConfig, keys: Collection[str]) -> None:
        self._post(lambda: self._replace(api, keys))

    def forget(self, holder: Hashable) -> None:
        self._post(lambda: self._forget(holder))

    def _post(self, item: _Item | _Order | None) -> None:
        with contextlib.suppress(RuntimeError):  # after the end
            self._loop.call_soon_threadsafe(self._receive, item)

    def _receive(self, item: _Item | _Order | None) -> None:
        self._inbox.append(item)
        self._has_new.set()

    # --- the thread -----------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._looking = self._loop.create_task(self._look())
        while await self._has_new.wait():
            self._has_new.clear()
            while batch := list(self._pop_batch()):
                await self._count(batch)
            if not self._inbox:
                continue
            order = self._inbox.popleft()
            self._has_new.set()
            if not callable(order):
                break
            self._moment = time.monotonic()
            await self._ask(order())
        self._looking.cancel()
        await asyncio.wait([self._looking])
        await self._buckets.close()

    def _pop_batch(self) -> Iterator[_Item]:
        """What has come until other limits, a dead holder or the end."""
        for _ in range(_MAX_BATCH):
            if not (self._inbox and isinstance(item := self._inbox[0], _Item)):
                return
            self._inbox.popleft()
            yield item

    async def _look(self) -> None:
        """Look at Redis until it answers."""
        while not self.is_reachable:
            try:
                async with asyncio.timeout(self._settings.timeout):
                    await self._buckets.probe()
            except Exception as error:  # whatever it is, requests go on
                self._note_gone(error)
                await asyncio.sleep(TRY_AGAIN)
            else:
                self.is_reachable = True
                again = " again" if self._is_gone_told else ""
                log.info("shared limits: Redis at %s answers%s", self._buckets.where, again)
                self._is_gone_told = False

    def _note_gone(self, error: Exception) -> None:
        self.is_reachable = False
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._look())
        if self._is_gone_told:
            return
        self._is_gone_told = True
        meanwhile = (
            "this node counts for itself"
            if self._settings.when_unreachable == "allow"
            else "requests of keys with limits are refused"
        )
        reason = str(error) or f"no answer in {self._settings.timeout:g} s"
        log.warning(
            "shared limits: Redis at %s cannot be used: %s; meanwhile, %s",
            self._buckets.where,
            reason,
            meanwhile,
        )

    async def _count(self, batch: list[_Item]) -> None:
        self._moment = time.monotonic()
        commands = [self._command_of(item) for item in batch]
        asked = [command for command in commands if command is not None]
        answers = await self._ask(asked)
        self._moment = time.monotonic()
        for item, command in zip(batch, commands, strict=True):
            taken = answers.pop(0) if command is not None and answers is not None else None
            if isinstance(item.message, Reserve):
                item.answer(self._reserved(item, item.message, command, taken))

    async def _ask(self, commands: list[Command]) -> list[Taken] | None:
        """The answers of Redis; None if it gives none."""
        if not (commands and self.is_reachable):
            return None
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._buckets.run(commands)
        except Exception as error:  # whatever it is, requests go on
            self._note_gone(error)
            return None

    def _command_of(self, item: _Item) -> Command | None:
        """The command for Redis; None if nothing changes there.

        What a ``Used`` or a ``Settle`` says counts in the ledger at once.
        """
        match item.message:
            case Reserve(_, key, model, tokens, expected):
                item.claims = self._ledger.claims(key, model, tokens, expected)
                parts = [
                    Part(bucket.name, bucket.limit, claim.amount)
                    for claim in item.claims
                    for bucket in claim.buckets
                ]
                return Command(parts) if parts else None
            case Used(ticket, tokens):
                change = self._ledger.use(item.holder, ticket, tokens)
                parts = self._taken.get((item.holder, ticket), [])
            case Settle(ticket, tokens):
                change = self._ledger.settle(item.holder, ticket, tokens)
                parts = self._taken.pop((item.holder, ticket), [])
        if not (change and parts):
            return None
        return Command([replace(part, amount=change) for part in parts], is_reservation=False)

    def _reserved(
        self, item: _Item, message: Reserve, command: Command | None, taken: Taken | None
    ) -> Reserved:
        is_alone = command is not None and taken is None
        if is_alone and self._settings.when_unreachable == "refuse":
            return Reserved(message.ticket, "unreachable", TRY_AGAIN, None, None)
        if taken is not None:
            buckets = [bucket for claim in item.claims for bucket in claim.buckets]
            for bucket, level in zip(buckets, taken.levels, strict=True):
                bucket.set_level(level, self._moment)
        # With the levels of Redis, the ledger decides as Redis has decided.
        answer = self._ledger.reserve(
            item.holder,
            message.ticket,
            message.key,
            message.model,
            message.tokens,
            message.expected,
        )
        if taken is not None and taken.is_granted:
            parts = [part for part in taken.parts if part.name.kind == "tokens"]
            if parts:
                self._taken[item.holder, message.ticket] = parts
        return answer

    def _replace(self, api: ApiConfig, keys: Collection[str]) -> list[Command]:
        """The buckets refill by the new limits from now on, also those that nobody uses now."""
        self._ledger.replace(api, keys)
        limits = {bucket.name: bucket.limit for bucket in self._ledger.buckets}
        for name, parts in self._taken.items():
            self._taken[name] = [
                replace(part, limit=limits.get(part.name, part.limit)) for part in parts
            ]
        parts = (Part(name, limit, 0) for name, limit in limits.items())
        return [Command([part], is_reservation=False) for part in parts]

    def _forget(self, holder: Hashable) -> list[Command]:
        self._ledger.forget(holder)
        for name in [name for name in self._taken if name[0] == holder]:
            del self._taken[name]
        return []
