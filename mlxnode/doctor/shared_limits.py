"""Whether Redis counts the rate limits that several nodes share."""

import asyncio
import importlib.util
import time

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.doctor.findings import Finding
from mlxnode.process.redis_buckets import RedisBuckets, RedisError

_NAME = "shared limits"


def check_shared_limits(settings: SharedLimitsConfig) -> list[Finding]:
    """One finding if ``settings`` name a Redis; none without it."""
    if settings.redis is None:
        return []
    if importlib.util.find_spec("redis") is None:
        return [Finding(_NAME, "fail", "no package redis", "pip install 'mlxnode[redis]'")]
    buckets = RedisBuckets(settings.redis.get_secret_value(), settings.prefix)
    try:
        text = asyncio.run(_use(buckets, settings.timeout))
    except (RedisError, TimeoutError) as error:
        reason = str(error) or f"no answer in {settings.timeout:g} s"
        text = f"Redis at {buckets.where} cannot be used: {reason}"
        return [Finding(_NAME, "fail", text, "see server.shared_limits.redis")]
    return [Finding(_NAME, "ok", text)]


async def _use(buckets: RedisBuckets, timeout: float) -> str:
    """Use Redis as a node does; returns how long one round trip takes."""
    try:
        async with asyncio.timeout(timeout):
            await buckets.probe()
            begun = time.perf_counter()
            await buckets.probe()
            milliseconds = (time.perf_counter() - begun) / 2 * 1000
    finally:
        await buckets.close()
    return f"Redis at {buckets.where} answers in {milliseconds:.1f} ms"
