"""The inputs of one key, waiting to be computed in batches. No mlx.

Inputs of similar lengths share a batch, so that little of it is padding. Each input is due at
the moment at which its request alone would have computed it, and the most overdue input is
always in the next batch of the key: a single input does not wait behind another request's two
thousand, and no input waits for ever.
"""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mlxnode.engine.work import Owner, RequestKey
from mlxnode.messages.data import Timing

_SHORT = 16  # tokens; in a batch of shorter inputs, padding costs less than another batch
_MANY = 4096  # inputs


@dataclass(eq=False)
class EmbedRequest:
    """One ``Embed`` message, and the vectors that are computed so far."""

    key: RequestKey
    owner: Owner
    dimensions: int | None
    num_inputs: int
    arrived_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None  # its first input is in a batch
    is_dropped: bool = False
    num_waiting: int = 0  # inputs that are not in a batch yet
    tokens_waiting: int = 0
    _vectors: dict[int, np.ndarray] = field(init=False, default_factory=dict)  # by index

    @property
    def is_complete(self) -> bool:
        return len(self._vectors) == self.num_inputs

    @property
    def vectors(self) -> list[np.ndarray]:
        """The computed vectors, in the order of the inputs."""
        return [self._vectors[index] for index in sorted(self._vectors)]

    @property
    def timing(self) -> Timing | None:
        """The seconds until it was started, and from then until now."""
        if self.started_at is None:
            return None
        computed = time.monotonic() - self.started_at
        return Timing(self.started_at - self.arrived_at, computed)

    def take(self, index: int, vector: np.ndarray) -> None:
        """Keep the vector of the input at ``index``."""
        self._vectors[index] = vector


@dataclass(order=True)
class EmbedItem:
    """One input of a request. Ordered by ``due``; ``sequence`` breaks ties."""

    due: int
    sequence: int
    request: EmbedRequest = field(compare=False)
    index: int = field(compare=False)
    tokens: list[int] = field(compare=False)
    start: int | None = field(compare=False, default=None)  # of the second text of a pair

    @property
    def dimensions(self) -> int | None:
        return self.request.dimensions


class Filling:
    """A batch that is being put together."""

    def __init__(self, max_tokens: int):
        self.items: list[EmbedItem] = []
        self.shortest = self.longest = 0  # of the items, if there are any
        self._max_tokens = max_tokens

    def room_for(self, length: int) -> int:
        """How many inputs of ``length`` tokens fit, with the padding of all.

        One fits in any case. No input is shorter than half of the longest, unless all are
        short.
        """
        if not self.items:
            return max(self._max_tokens // length, 1)
        low, high = min(self.shortest, length), max(self.longest, length)
        if high > 2 * max(low, _SHORT):
            return 0
        return max(self._max_tokens // high - len(self.items), 0)

    @property
    def is_full(self) -> bool:
        """True if no further input fits, whatever its length."""
        return bool(self.items) and self.room_for(self.longest) == 0

    def put(self, items: Sequence[EmbedItem], length: int) -> None:
        """Append ``items`` of ``length`` tokens."""
        self.shortest = min(self.shortest, length) if self.items else length
        self.longest = max(self.longest, length)
        self.items += items


class ItemLine:
    """The waiting inputs of one key."""

    def __init__(self) -> None:
        self.num_items = 0
        self.num_tokens = 0  # without padding
        self._buckets: dict[int, list[EmbedItem]] = {}  # heaps, by length
        self._num_taken = 0  # tokens taken out so far: the clock of ``due``
        self._sequence = 0
        self._num_dropped = 0  # in the heaps, and not waiting

    def add(
        self, request: EmbedRequest, inputs: Sequence[list[int]], starts: Sequence[int]
    ) -> None:
        """Append the inputs of a request."""
        due = self._num_taken
        for index, tokens in enumerate(inputs):
            start = starts[index] if starts else None
            item = EmbedItem(due, self._sequence, request, index, tokens, start)
            heapq.heappush(self._buckets.setdefault(max(len(tokens), 1), []), item)
            due += len(tokens)
            self._sequence += 1
        request.num_waiting, request.tokens_waiting = len(inputs), due - self._num_taken
        self.num_items += request.num_waiting
        self.num_tokens += request.tokens_waiting

    def drop(self, request: EmbedRequest) -> None:
        """The inputs of ``request``, which is dropped, wait no more.

        They leave the heaps when their turn comes, or when most of the heaps is dropped: to
        look for those of each request would take as long as all that wait.
        """
        self._num_dropped += request.num_waiting
        self.num_items -= request.num_waiting
        self.num_tokens -= request.tokens_waiting
        request.num_waiting = request.tokens_waiting = 0
        if self._num_dropped > self.num_items + _MANY:
            self._compact()

    def fill(self, batch: Filling) -> None:
        """Move inputs to ``batch``: the most overdue one, then those of the nearest lengths."""
        firsts = {
            length: first for length in list(self._buckets) if (first := self._first(length))
        }
        if not firsts:
            return
        start = batch.longest or min(firsts, key=firsts.__getitem__)
        for length in sorted(firsts, key=lambda length: abs(length - start)):
            taken: list[EmbedItem] = []
            room = batch.room_for(length)
            while len(taken) < room and self._first(length):
                taken.append(heapq.heappop(self._buckets[length]))
            if taken:
                batch.put(taken, length)
                self._take(taken)
            self._first(length)

    def _compact(self) -> None:
        for length, bucket in list(self._buckets.items()):
            kept = [item for item in bucket if not item.request.is_dropped]
            heapq.heapify(kept)
            self._buckets[length] = kept
            self._first(length)
        self._num_dropped = 0

    def _first(self, length: int) -> EmbedItem | None:
        """The most overdue input of a length, after those of dropped requests are gone."""
        bucket = self._buckets.get(length, [])
        while bucket and bucket[0].request.is_dropped:
            heapq.heappop(bucket)
            self._num_dropped -= 1
        if not bucket:
            self._buckets.pop(length, None)
            return None
        return bucket[0]

    def _take(self, items: Sequence[EmbedItem]) -> None:
        now = time.monotonic()
        for item in items:
            if item.request.started_at is None:
                item.request.started_at = now
            item.request.num_waiting -= 1
            item.request.tokens_waiting -= len(item.tokens)
            self._num_taken += len(item.tokens)
            self.num_tokens -= len(item.tokens)
        self.num_items -= len(items)
