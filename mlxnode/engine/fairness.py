"""Who is next among those who share the engine: start-time fair queueing.

Each key has a virtual time, which grows by the tokens that the engine computes for it, divided
by the weight of the key. The key that is behind the others is next. A key that comes back does
not catch up on the time in which it asked for nothing.

Goyal, Vin and Cheng, "Start-time fair queueing", SIGCOMM 1996; with tokens as the service as in
Sheng et al., "Fairness in serving large language models", OSDI 2024.
"""

# One turn of so many is for all priorities alike, so that the worst one does not wait for ever.
SLOW_SHARE = 8
_MAX_KEYS = 1024  # then the keys that are behind are forgotten: they stand at the present


class FairClock:
    """The virtual times of the keys, in tokens of a key with the weight 1."""

    def __init__(self) -> None:
        self._now = 0.0  # where the key stood that was served last
        self._ends: dict[str, float] = {}  # where each key stands

    def time_of(self, key: str) -> float:
        """The virtual time of ``key``; the lowest is next."""
        return max(self._now, self._ends.get(key, 0.0))

    def serve(self, key: str) -> None:
        """Work of ``key`` is next. ``charge`` follows, as far as it is computed."""
        self._now = self.time_of(key)
        if len(self._ends) > _MAX_KEYS:
            self._ends = {key: end for key, end in self._ends.items() if end > self._now}

    def charge(self, key: str, tokens: int, weight: float) -> None:
        """``tokens`` were computed for ``key``."""
        self._ends[key] = self.time_of(key) + tokens / weight
