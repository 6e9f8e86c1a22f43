"""The memory of all ranks, as one: the fullest rank is what rank 0's guard sees.

A KV cache grows on all ranks at once. If another program takes the memory of one, requests have
to wait or to end on all of them.
"""

import logging

import mlx.core as mx

from mlxnode import footprint
from mlxnode.engine.memory.guard import MemoryMeter
from mlxnode.engine.memory.pressure import HIGH, LOW
from mlxnode.engine.ranks.cluster import Cluster
from mlxnode.messages.ranks import Beat

log = logging.getLogger("mlxnode.ranks")


class RankMeter:
    """On a rank other than 0: what it tells rank 0 of its memory."""

    def __init__(self, meter: MemoryMeter, limit: int):
        """``limit`` is in bytes."""
        self._meter, self._limit = meter, limit

    def beat(self) -> Beat:
        """Its memory, as it is now."""
        return Beat(
            memory_bytes=mx.get_active_memory(),
            fullness=self._meter.used() / self._limit,
            is_system_short=footprint.is_system_short_of_memory(),
        )


class Strain:
    """On rank 0: the memory of all ranks."""

    def __init__(self, meter: MemoryMeter, limit: int, cluster: Cluster):
        """``limit`` is in bytes."""
        self._meter, self._limit, self._cluster = meter, limit, cluster
        self._told: set[int] = set()  # the ranks that are short

    def used(self) -> int:
        """The bytes of this rank, or as many as another one that is fuller would have here.

        Another rank tells its memory twice a second, so it never is above ``HIGH``: a request
        that ends there is seen to have ended before the next one is aborted.
        """
        beats = self._cluster.beats()
        self._tell({rank for rank, beat in beats.items() if self._is_short(rank, beat)})
        fullness = max((beat.fullness for beat in beats.values()), default=0.0)
        return max(self._meter.used(), int(min(fullness, HIGH) * self._limit))

    def is_system_short(self) -> bool:
        """True if the system of any rank is short of memory."""
        others = any(beat.is_system_short for beat in self._cluster.beats().values())
        return others or footprint.is_system_short_of_memory()

    def _tell(self, short: set[int]) -> None:
        for rank in sorted(short - self._told):
            log.warning("%s is short of memory", self._cluster.describe(rank))
        self._told = short

    def _is_short(self, rank: int, beat: Beat) -> bool:
        return beat.is_system_short or beat.fullness > (LOW if rank in self._told else 1)
