"""Embedding requests of all workers, waiting for a place in a batch. Plain Python, no mlx.

Like lengths share a batch, so that little of it is padding. Each text is due at the moment
at which it would be served if its request were alone, and the one most overdue is always
in the next batch: a single text does not wait behind another client's two thousand, and
nothing waits for ever.
"""

import heapq
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHORT = 16  # tokens; in a batch of shorter texts, padding costs less than another batch


@dataclass(eq=False)
class EmbedRequest:
    """One ``Embed`` message: what is asked, and what has been computed of it."""

    key: Hashable
    dimensions: int | None
    vectors: list[Any]  # one per input, None until computed
    num_missing: int
    is_dropped: bool = False


@dataclass(order=True)
class EmbedItem:
    """One text of a request. Ordered by when it is due; ``sequence`` breaks ties."""

    due: int
    sequence: int
    request: EmbedRequest = field(compare=False)
    index: int = field(compare=False)
    tokens: list[int] = field(compare=False)

    @property
    def dimensions(self) -> int | None:
        return self.request.dimensions


class EmbeddingQueue:
    """Waiting texts of one model, and the requests that they belong to."""

    def __init__(self):
        self.num_tokens = 0  # waiting, without padding
        self._requests: dict[Hashable, EmbedRequest] = {}
        self._buckets: dict[int, list[EmbedItem]] = {}  # heaps, by length
        self._num_items = 0
        self._num_taken = 0  # tokens given out so far: the clock of ``due``
        self._sequence = 0

    def __len__(self) -> int:
        """The number of texts that wait."""
        return self._num_items

    @property
    def num_requests(self) -> int:
        """Requests that are not whole yet, those of a batch being computed among them."""
        return len(self._requests)

    def add(
        self, key: Hashable, inputs: Sequence[list[int]], dimensions: int | None = None
    ) -> None:
        """Queue a request of at least one text under ``key``, which no other may have."""
        if key in self._requests:
            raise ValueError(f"request {key!r} is queued already")
        if not inputs:
            raise ValueError(f"request {key!r} has no inputs")
        request = EmbedRequest(key, dimensions, [None] * len(inputs), len(inputs))
        self._requests[key] = request
        due = self._num_taken
        for index, tokens in enumerate(inputs):
            item = EmbedItem(due, self._sequence, request, index, tokens)
            bucket = self._buckets.setdefault(max(len(tokens), 1), [])
            heapq.heappush(bucket, item)
            due += len(tokens)
            self._sequence += 1
        self.num_tokens += due - self._num_taken
        self._num_items += len(inputs)

    def abort(self, key: Hashable) -> None:
        """Forget a request; an unknown key (finished, say) is fine."""
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
        """Take out the texts to compute next; empty when nothing waits.

        A batch holds at most ``max_tokens`` tokens, padding counted, unless its one text
        alone has more. Beginning with the most overdue text, it grows by that text's length
        first and then by the nearest ones, none less than half of the longest, unless all
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
        self, batch: Sequence[EmbedItem], vectors: Sequence[Any]
    ) -> list[EmbedRequest]:
        """Hand in the vectors of a batch; returns the requests that are now whole.

        Their ``vectors`` are in the order of the inputs. Aborted requests are passed over.
        """
        finished = []
        for item, vector in zip(batch, vectors, strict=True):
            request = item.request
            if request.is_dropped:
                continue
            request.vectors[item.index] = vector
            request.num_missing -= 1
            if request.num_missing == 0:
                del self._requests[request.key]
                finished.append(request)
        return finished

    def fail(self, batch: Sequence[EmbedItem]) -> list[EmbedRequest]:
        """Forget the requests of a batch that could not be computed, and return them."""
        failed = {id(item.request): item.request for item in batch}
        alive = [request for request in failed.values() if not request.is_dropped]
        for request in alive:
            self.abort(request.key)
        return alive

    def _take(self, length: int, count: int) -> list[EmbedItem]:
        bucket = self._buckets[length]
        taken = [heapq.heappop(bucket) for _ in range(min(count, len(bucket)))]
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
