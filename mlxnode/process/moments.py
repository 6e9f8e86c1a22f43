"""The node at one moment as a row of numbers, and the rows of the last minutes."""

from collections import deque

from mlxnode.figures import EngineFigures, Moment, TrafficFigures

INTERVAL = 1.0  # seconds between two moments
NUM_KEPT = 120  # moments: two minutes


def moment_of(
    engine: EngineFigures | None, traffic: TrafficFigures, num_requests: int
) -> Moment:
    """The moment that these figures are of; ``num_requests`` are in flight."""
    rates = traffic.rates
    works = [model.work for model in engine.distinct] if engine else []
    memory = engine.memory if engine else None
    return Moment(
        generated_tokens=rates.generated,
        prompt_tokens=rates.prompt,
        requests=traffic.requests_per_second,
        first_token=traffic.first_token_median,
        inter_token=traffic.inter_token_median,
        in_flight=num_requests,
        running=sum(work.num_running for work in works),
        waiting=sum(work.num_waiting for work in works),
        background=sum(work.num_background for work in works),
        kv_claimed=memory.kv_claimed if memory else 0,
        prefix_bytes=sum(work.prefix_bytes for work in works),
        prefix_share=traffic.prefix_share,
        buffer_cache=memory.buffer_cache if memory else 0,
        memory=max(memory.active + memory.buffer_cache, memory.footprint) if memory else 0,
    )


class Moments:
    """Keeps the latest ``NUM_KEPT`` moments, one for each ``INTERVAL``."""

    def __init__(self):
        self._moments: deque[Moment] = deque(maxlen=NUM_KEPT)
        self._noted_at: float | None = None

    def note(self, now: float, moment: Moment) -> None:
        """Keep ``moment`` if the last one is an interval old; else it replaces the last one.

        So the last one is always the latest.
        """
        if self._noted_at is not None and now - self._noted_at < INTERVAL:
            self._moments[-1] = moment
            return
        # A whole number of intervals after the one before, so that many make no other pace.
        late = 0.0 if self._noted_at is None else (now - self._noted_at) % INTERVAL
        self._noted_at = now - late
        self._moments.append(moment)

    @property
    def kept(self) -> list[Moment]:
        """The moments, the oldest first."""
        return list(self._moments)
