"""Buckets in Redis, which the nodes of a group share.

Redis runs each script alone, on its own clock, so that no two nodes take the same tokens. It
keeps the used amount of a bucket, not its level: nodes with different limits count one use.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlxnode.process.ledger import BucketName

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEEP = 3600  # seconds for which a bucket that is full again is kept: for answers that run

# ARGV: "reserve" or "change"; then limit, amount and birth for each bucket of KEYS. "reserve"
# takes all amounts or none. "change" releases nothing that was taken from an older bucket of
# that name: Redis may have lost its data since. Returns 1 if it has taken; then, for each
# bucket, its level (before a "reserve", after a "change") and its birth. Numbers are texts,
# since Redis cuts numbers to integers.
SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function text(number) return string.format('%.17g', number) end
local buckets, has_room = {{}}, true
for i, name in ipairs(KEYS) do
  local limit, amount = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local kept = redis.call('HMGET', name, 'used', 'at', 'limit', 'birth')
  local used = 0
  if kept[1] then
    local elapsed = math.max(0, now - tonumber(kept[2]))
    used = math.max(0, tonumber(kept[1]) - elapsed * tonumber(kept[3]) / 60)
  end
  has_room = has_room and amount <= limit - used
  buckets[i] = {{limit = limit, amount = amount, used = used, birth = kept[4] or text(now),
    is_same = kept[4] == ARGV[3 * i + 1]}}
end
local is_reserve = ARGV[1] == 'reserve'
local answer = {{(has_room or not is_reserve) and 1 or 0}}
for i, name in ipairs(KEYS) do
  local b = buckets[i]
  local before = b.used
  if (is_reserve and has_room) or (not is_reserve and (b.amount >= 0 or b.is_same)) then
    b.used = math.max(0, b.used + b.amount)
    redis.call('HSET', name, 'used', text(b.used), 'at', text(now), 'limit', b.limit,
      'birth', b.birth)
    redis.call('EXPIRE', name, math.ceil(b.used * 60 / b.limit) + {KEEP})
  end
  answer[2 * i] = text(b.limit - (is_reserve and before or b.used))
  answer[2 * i + 1] = b.birth
end
return answer
"""


@dataclass(frozen=True)
class Part:
    """What a command takes from one bucket; ``birth``: of the bucket that it has taken from."""

    name: BucketName
    limit: int
    amount: int
    birth: str = ""


@dataclass(frozen=True)
class Command:
    """Takes all parts or none if it is a reservation, else each part in any case."""

    parts: Sequence[Part]
    is_reservation: bool = True


@dataclass(frozen=True)
class Taken:
    """The answer to a command: whether it has taken, and the levels of its buckets.

    ``levels`` are those before a reservation, or after a change; ``parts`` have the births.
    """

    is_granted: bool
    levels: list[float]
    parts: list[Part]


class RedisError(Exception):
    """Redis cannot count now; the text says why, without the password."""


class RedisBuckets:
    """A connection to Redis, which is made again whenever it is needed."""

    def __init__(self, url: str, prefix: str, script: str = SCRIPT):
        self._url = url
        self._prefix = prefix
        self._script = script
        self._digest = ""
        # Imported here: a node without shared limits does without the package. And now: the
        # import takes longer than an answer may.
        import redis.asyncio

        self._make = redis.asyncio.Redis.from_url
        self._client: Redis | None = None
        self.where = place_of(url)

    async def probe(self) -> None:
        """Load the script and run it on a bucket of nobody.

        Raises:
            RedisError: Redis cannot be reached, or may not write.
        """
        with _told():
            self._digest = await self._connected().execute_command("SCRIPT LOAD", self._script)
        nobody = Part(BucketName("probe", None, "requests"), 1, 0)
        await self.run([Command([nobody])])

    async def run(self, commands: Sequence[Command]) -> list[Taken]:
        """Run all commands, in one round trip.

        Raises:
            RedisError: some may have run, and some not.
        """
        with _told():
            answers = await self._execute(commands)
            if lost := [i for i, answer in enumerate(answers) if _has_no_script(answer)]:
                await self._connected().execute_command("SCRIPT LOAD", self._script)
                again = await self._execute([commands[i] for i in lost])
                for i, answer in zip(lost, again, strict=True):
                    answers[i] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return [_taken(*pair) for pair in zip(commands, answers, strict=True)]

    async def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            await self._client.aclose()

    def _connected(self) -> "Redis":
        if self._client is None:
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            # A command that is sent twice would count twice. The caller has the deadline.
            self._client = self._make(
                self._url,
                protocol=2,
                decode_responses=True,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=None,
                socket_connect_timeout=None,
            )
        return self._client

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._connected().pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command("EVALSHA", self._digest, *self._arguments(command))
        return await pipeline.execute(raise_on_error=False)

    def _arguments(self, command: Command) -> Iterator[str | int]:
        yield len(command.parts)
        for part in command.parts:
            yield self._name(part.name)
        yield "reserve" if command.is_reservation else "change"
        for part in command.parts:
            yield from (part.limit, part.amount, part.birth)

    def _name(self, bucket: BucketName) -> str:
        """All buckets of a key are on one machine of a cluster: the braces say so."""
        model = "" if bucket.model is None else f":{bucket.model}"
        return f"{self._prefix}:{{{bucket.key}}}:{bucket.kind}{model}"


def place_of(url: str) -> str:
    """Where the URL leads, without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or 6379}"


def _taken(command: Command, answer: list[Any]) -> Taken:
    is_granted, *rest = answer
    levels, births = [float(level) for level in rest[::2]], rest[1::2]
    if len(levels) != len(command.parts) or not all(map(math.isfinite, levels)):
        raise RedisError("an answer does not fit its command")
    parts = [replace(part, birth=str(b)) for part, b in zip(command.parts, births, strict=True)]
    return Taken(bool(is_granted), levels, parts)


def _has_no_script(answer: object) -> bool:
    from redis.exceptions import NoScriptError

    return isinstance(answer, NoScriptError)


class _told:
    """Turns the errors of the package and of the system into a ``RedisError``."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from redis.exceptions import RedisError as PackageError

        if isinstance(error, PackageError | OSError | ValueError):
            raise RedisError(str(error) or type(error).__name__) from error
