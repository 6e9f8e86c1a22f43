"""Embedding requests of all workers, waiting to be computed in batches. No mlx.

The keys take turns by the tokens that were computed for them, the best priority almost always
first. What is left of a batch is filled with the inputs of other keys. Within a key, see
``line.py``.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mlxnode.engine.embedding.line import EmbedItem, EmbedRequest, Filling, ItemLine
from mlxnode.engine.fairness import SLOW_SHARE, FairClock
from mlxnode.engine.work import Owner, RequestKey

NOBODY = Owner("", 1.0, 0, (0, 0))
Line = tuple[int, str]  # priority and key


class EmbeddingQueue:
    """The waiting inputs of one model, and their requests."""

    def __init__(self):
        self._requests: dict[RequestKey, EmbedRequest] = {}
        self._lines: dict[Line, ItemLine] = {}
        self._per_key: Counter[str] = Counter()  # requests that are not complete
        self._clock = FairClock()
        self._num_batches = 0

    def __len__(self) -> int:
        """The number of waiting inputs."""
        return sum(line.num_items for line in self._lines.values())

    @property
    def num_tokens(self) -> int:
        """The waiting tokens, without padding."""
        return sum(line.num_tokens for line in self._lines.values())

    @property
    def num_requests(self) -> int:
        """Requests that are not complete, including those of a batch in progress."""
        return len(self._requests)

    def is_full_for(self, key: str, size: int) -> bool:
        """True if ``key`` has its share of a queue of ``size`` requests.

        Who waits with less than an even share finds a place beyond the size.
        """
        num_keys = len(self._per_key) + (key not in self._per_key)
        return self.num_requests >= size and self._per_key[key] >= size // num_keys

    def add(
        self,
        key: RequestKey,
        inputs: Sequence[list[int]],
        dimensions: int | None = None,
        starts: Sequence[int] = (),
        owner: Owner = NOBODY,
        arrived_at: float | None = None,
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
        request = EmbedRequest(key, owner, dimensions, len(inputs))
        if arrived_at is not None:
            request.arrived_at = arrived_at
        self._requests[key] = request
        self._per_key[owner.key] += 1
        self._lines.setdefault((owner.priority, owner.key), ItemLine()).add(
            request, inputs, starts
        )

    def abort(self, key: RequestKey) -> None:
        """Drop a request; an unknown key (of a finished request, say) is ignored."""
        if (request := self._requests.get(key)) is None:
            return
        self._forget(request)
        request.is_dropped = True
        line = request.owner.priority, request.owner.key
        if line in self._lines:
            self._lines[line].drop(request)
            self._tidy()

    def next_batch(self, max_tokens: int) -> list[EmbedItem]:
        """Take out the inputs to compute next; empty if no input waits.

        A batch has at most ``max_tokens`` tokens, padding included, unless its only input has
        more. The key that is behind fills it first, then the others, as far as their inputs
        have the right lengths: see ``ItemLine.fill``.
        """
        batch = Filling(max_tokens)
        for line in self._in_turn():
            if not batch.items:
                self._clock.serve(line[1])
            self._lines[line].fill(batch)
            if batch.is_full:
                break
        for item in batch.items:
            owner = item.request.owner
            self._clock.charge(owner.key, len(item.tokens), owner.weight)
        self._tidy()
        return batch.items

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
                self._forget(request)
                finished.append(request)
        return finished

    def fail(self, batch: Sequence[EmbedItem]) -> list[EmbedRequest]:
        """Drop and return the requests of a batch that could not be computed."""
        requests = {id(item.request): item.request for item in batch}
        failed = [request for request in requests.values() if not request.is_dropped]
        for request in failed:
            self.abort(request.key)
        return failed

    def _forget(self, request: EmbedRequest) -> None:
        del self._requests[request.key]
        self._per_key[request.owner.key] -= 1
        if not self._per_key[request.owner.key]:
            del self._per_key[request.owner.key]

    def _in_turn(self) -> list[Line]:
        """The lines, the next one first."""
        self._num_batches += 1
        is_slow_turn = self._num_batches % SLOW_SHARE == 0

        def rank(line: Line) -> tuple[int, float]:
            priority, key = line
            return 0 if is_slow_turn else priority, self._clock.time_of(key)

        return sorted(self._lines, key=rank)

    def _tidy(self) -> None:
        for line in [line for line, items in self._lines.items() if not items.num_items]:
            del self._lines[line]


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
