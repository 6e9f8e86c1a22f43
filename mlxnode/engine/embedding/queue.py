"""Embedding requests of all workers, waiting to be computed in batches. No mlx.

Inputs of similar lengths share a batch, so that little of it is padding. Each input is due at
the moment at which its request alone would have computed it, and the most overdue input is
always in the next batch: a single input does not wait behind another client's two thousand,
and no input waits for ever.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mlxnode.engine.work import RequestKey

_SHORT = 16  # tokens; in a batch of shorter inputs, padding costs less than another batch


@dataclass(eq=False)
class EmbedRequest:
    """One ``Embed`` message, and the vectors that are computed so far."""

    key: RequestKey
    dimensions: int | None
    num_inputs: int
    is_dropped: bool = False
    _vectors: dict[int, np.ndarray] = field(init=False, default_factory=dict)  # by index

    @property
    def is_complete(self) -> bool:
        return len(self._vectors) == self.num_inputs

    @property
    def vectors(self) -> list[np.ndarray]:
        """The computed vectors, in the order of the inputs."""
        return [self._vectors[index] for index in sorted(self._vectors)]

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


class EmbeddingQueue:
    """The waiting inputs of one model, and their requests."""

    def __init__(self):
        self.num_tokens = 0  # waiting, without padding
        self._requests: dict[RequestKey, EmbedRequest] = {}
        self._buckets: dict[int, list[EmbedItem]] = {}  # heaps, by length
        self._num_items = 0
        self._num_taken = 0  # tokens taken out so far: the clock of ``due``
        self._sequence = 0

    def __len__(self) -> int:
        """The number of waiting inputs."""
        return self._num_items

    @property
    def num_requests(self) -> int:
        """Requests that are not complete, including those of a batch in progress."""
        return len(self._requests)

    def add(
        self,
        key: RequestKey,
        inputs: Sequence[list[int]],
        dimensions: int | None = None,
        starts: Sequence[int] = (),
    ) -> None:
        """Queue a request of at least one input; ``starts``: of their second texts, if any.

        Raises:
            ValueError: ``key`` is queued already, there are no inputs, or not as many starts.
        """
        if key in self._requests:
            raise ValueError(f"request {key!r} is queued already")
        if not inputs:
            raise ValueError(f"request {key!r} has no inputs")
        if starts and len(starts) != len(inputs):
            raise ValueError(f"request {key!r}: {len(starts)} starts, {len(inputs)} inputs")
        request = EmbedRequest(key, dimensions, len(inputs))
        self._requests[key] = request
        due = self._num_taken
        for index, tokens in enumerate(inputs):
            start = starts[index] if starts else None
            item = EmbedItem(due, self._sequence, request, index, tokens, start)
            bucket = self._buckets.setdefault(max(len(tokens), 1), [])
            heapq.heappush(bucket, item)
            due += len(tokens)
            self._sequence += 1
        self.num_tokens += due - self._num_taken
        self._num_items += len(inputs)

    def abort(self, key: RequestKey) -> None:
        """Drop a request; an unknown key (of a finished request, say) is ignored."""
        request = self._requests.pop(key, None)
        if request is None:
            return
        request.is_dropped = True
        for length, bucket in list(self._buckets.items()):
            kept = [item for item in bucket if item.request is not request]
            if len(kept) == len(bucket):
                continue
            self.num_tokens -= sum(len(i.tokens) for i in bucket if i.request is request)
            self._num_items -= len(bucket) - len(kept)
            self._set_bucket(length, kept)

    def next_batch(self, max_tokens: int) -> list[EmbedItem]:
        """Take out the inputs to compute next; empty if no input waits.

        A batch has at most ``max_tokens`` tokens, padding included, unless its only input has
        more. The batch starts with the most overdue input and grows by inputs of that length,
        then of the nearest lengths. No input is shorter than half of the longest, unless all
        are short.
        """
        if not self._buckets:
            return []
        start = min(self._buckets, key=lambda length: self._buckets[length][0])
        batch: list[EmbedItem] = []
        shortest = longest = start
        for length in sorted(self._buckets, key=lambda length: abs(length - start)):
            low, high = min(shortest, length), max(longest, length)
            room = max(max_tokens // high, 0 if batch else 1) - len(batch)
            if high > 2 * max(low, _SHORT) or room <= 0:
                continue
            batch += self._take(length, room)
            shortest, longest = low, high
        self._num_taken += sum(len(item.tokens) for item in batch)
        return batch

    def complete(
        self, batch: Sequence[EmbedItem], vectors: Sequence[np.ndarray]
    ) -> list[EmbedRequest]:
        """Take the vectors of a batch; return the requests that they complete.

        Vectors of aborted requests are dropped.
        """
        finished = []
        for item, vector in zip(batch, vectors, strict=True):
            request = item.request
            if request.is_dropped:
                continue
            request.take(item.index, vector)
            if request.is_complete:
                del self._requests[request.key]
                finished.append(request)
        return finished

    def fail(self, batch: Sequence[EmbedItem]) -> list[EmbedRequest]:
        """Drop and return the requests of a batch that could not be computed."""
        requests = {id(item.request): item.request for item in batch}
        failed = [request for request in requests.values() if not request.is_dropped]
        for request in failed:
            self.abort(request.key)
        return failed

    def _take(self, length: int, limit: int) -> list[EmbedItem]:
        bucket = self._buckets[length]
        taken = [heapq.heappop(bucket) for _ in range(min(limit, len(bucket)))]
        if not bucket:
            del self._buckets[length]
        self.num_tokens -= sum(len(item.tokens) for item in taken)
        self._num_items -= len(taken)
        return taken

    def _set_bucket(self, length: int, items: list[EmbedItem]) -> None:
        if items:
            heapq.heapify(items)
            self._buckets[length] = items
        else:
            del self._buckets[length]


def pad(inputs: Sequence[list[int]]) -> tuple[np.ndarray, list[int]]:
    """The token ids of a batch, padded to its longest input, and their lengths.

    Shapes:
        N inputs -> ids [N, L] int32, N lengths
    """
    lengths = [len(tokens) for tokens in inputs]
    ids = np.zeros((len(inputs), max(1, *lengths)), np.int32)
    for row, tokens in zip(ids, inputs, strict=True):
        row[: len(tokens)] = tokens
    return ids, lengths
