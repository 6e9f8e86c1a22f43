"""Which request runs next. Plain Python, without mlx."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from mlxnode.engine.decode.request import Request, RequestKey

# After this many shorter prompts went first, the oldest one has its turn.
MAX_OVERTAKEN = 4


class Refusal(NamedTuple):
    """Why the engine does not take a request, as ``messages.Failed`` tells it."""

    reason: Literal["overloaded", "too_large"]
    message: str


class MemoryBudget:
    """Bytes of KV cache, shared by the models of the engine.

    ``total`` is what there is; it may be set once the models are loaded. ``lenders`` are asked
    to give back so many bytes of what they hold when a claim does not fit.
    """

    def __init__(self, total: int = 0):
        self.total = total
        self.lenders: list[Callable[[int], None]] = []
        self._claims: dict[object, int] = {}

    def claim(self, owner: object, size: int, *, borrows: bool = True) -> bool:
        """Set what ``owner`` holds to ``size``; False, and no change, if it does not fit."""
        if borrows and size > self._claims.get(owner, 0):
            for lend in self.lenders:
                if (missing := self._others(owner) + size - self.total) > 0:
                    lend(missing)
        if self._others(owner) + size > self.total:
            return False
        self._claims[owner] = size
        return True

    def _others(self, owner: object) -> int:
        return sum(size for holder, size in self._claims.items() if holder is not owner)


class Throughput:
    """How many tokens a second a model runs on, as measured."""

    MIN_CHUNK, MAX_CHUNK = 16, 2048

    def __init__(self) -> None:
        self._tokens_per_second = 1000.0

    def tokens_in(self, seconds: float) -> int:
        """As many as take so long, within bounds."""
        return min(max(int(self._tokens_per_second * seconds), self.MIN_CHUNK), self.MAX_CHUNK)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a pass over that many."""
        if tokens >= self.MIN_CHUNK and seconds > 0:
            self._tokens_per_second += 0.3 * (tokens / seconds - self._tokens_per_second)


class PrefillClock:
    """How many prompt tokens fit in the time that running rows may be kept waiting.

    That is the configured stall, or nearly as long as a decode step takes where that is slower:
    a prompt then at most doubles the time between two tokens. When others wait behind it, more
    time goes to them, up to ``MAX_SHARE`` times as much: someone who waits counts like
    ``WEIGHT`` who have their first word.
    """

    OF_A_STEP = 0.85  # the rest is for what a piece costs besides its pass
    MAX_SHARE = 8
    WEIGHT = 4
    ALONE = 20  # times the stall when no row runs: efficient, yet an abort is heard soon

    def __init__(self, stall_seconds: float):
        self._stall_seconds = stall_seconds
        self._throughput = Throughput()
        self.step_seconds = 0.0  # of a decode step

    def chunk_size(self, *, num_running: int, num_prompts: int = 1) -> int:
        """Tokens of prompt to process before the next decode step."""
        seconds = self.ALONE * self._stall_seconds
        if num_running:
            share = min(max(self.WEIGHT * (num_prompts - 1) / num_running, 1), self.MAX_SHARE)
            seconds = share * max(self._stall_seconds, self.OF_A_STEP * self.step_seconds)
        return self._throughput.tokens_in(seconds)

    def observe_chunk(self, tokens: int, seconds: float) -> None:
        """Learn from a piece of prompt that was processed."""
        self._throughput.observe(tokens, seconds)

    def observe_step(self, seconds: float) -> None:
        """Learn from a decode step."""
        self.step_seconds += 0.3 * (seconds - self.step_seconds)


class Scheduler:
    """The requests of one model: waiting, then prefilling, then running.

    ``batch_bytes`` tells the size of the KV cache of so many rows at a length in tokens. A
    request leaves the queue when a row is free and the batch at its full length fits the
    budget, so that the device never runs out of memory halfway.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_queue_size: int,
        budget: MemoryBudget,
        batch_bytes: Callable[[int, int], int],
    ):
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._budget = budget
        self._batch_bytes = batch_bytes
        self._waiting: deque[Request] = deque()
        self._prefilling: list[Request] = []
        self._admitted: dict[RequestKey, Request] = {}
        self._num_overtakes = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._admitted)

    @property
    def num_prefilling(self) -> int:
        return len(self._prefilling)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def refusal(self, request: Request) -> Refusal | None:
        """Why the request cannot even wait, or None."""
        size = self._batch_bytes(1, request.max_length)
        if size > self._budget.total:
            return Refusal(
                "too_large",
                f"{len(request.prompt)} prompt tokens and max_tokens of {request.max_tokens} "
                f"need {size / 1e9:.2f} GB of KV cache; this node has "
                f"{self._budget.total / 1e9:.2f} GB",
            )
        if len(self._waiting) >= self._max_queue_size:
            return Refusal("overloaded", f"{len(self._waiting)} requests are already waiting")
        return None

    def add(self, request: Request) -> None:
        self._waiting.append(request)

    def admit(self) -> None:
        """Move requests from the queue into free rows, in the order of their arrival."""
        while self._waiting and len(self._admitted) < self._max_batch_size:
            request = self._waiting[0]
            if not self._claim([*self._admitted.values(), request]):
                return
            self._admitted[request.key] = self._waiting.popleft()
            self._prefilling.append(request)

    def next_prefill(self, besides: Sequence[Request] = ()) -> Request | None:
        """The request whose prompt is processed next: the shortest rest, within fairness.

        ``besides`` are those that were chosen already. One that begins like another under way
        waits for it: what they share is then known.
        """
        begun = [request for request in self._prefilling if request.cache is not None]
        ready = [
            request
            for request in self._prefilling
            if request not in besides
            and (request in begun or not any(map(request.begins_like, begun)))
        ]
        if not ready:
            return None
        oldest = ready[0]
        shortest = min(ready, key=lambda request: request.num_to_prefill)
        if shortest is oldest or self._num_overtakes >= MAX_OVERTAKEN:
            self._num_overtakes = 0
            return oldest
        self._num_overtakes += 1
        return shortest

    def finish_prefill(self, request: Request) -> None:
        """Its prompt is in the cache: it leaves the prefill line and keeps its memory."""
        self._prefilling.remove(request)

    def discard(self, request: Request) -> None:
        """Forget a request that has no row in the batch yet, if it is still here."""
        if request in self._waiting:
            self._waiting.remove(request)
        elif request in self._prefilling:
            self._prefilling.remove(request)
            self.release(request)

    def drop_all(self) -> list[Request]:
        """Forget every request; returns them."""
        requests = [*self._waiting, *self._admitted.values()]
        self._waiting.clear()
        self._prefilling.clear()
        self._admitted.clear()
        self._claim([])
        return requests

    def release(self, request: Request) -> None:
        """The row of an admitted request is gone: give its memory back."""
        del self._admitted[request.key]
        self._claim([*self._admitted.values()])

    def _claim(self, requests: list[Request]) -> bool:
        # Rows of one batch are padded to the longest.
        longest = max((request.max_length for request in requests), default=0)
        return self._budget.claim(self, self._batch_bytes(len(requests), longest))
