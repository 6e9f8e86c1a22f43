"""Which request runs next. Plain Python, without mlx arrays."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.kvcache.budget import CacheSizes, MemoryBudget
from mlxnode.engine.work import RequestKey
from mlxnode.messages import Failed

# After this many shorter prompts went first, the oldest prompt is next.
MAX_OVERTAKEN = 4


class Scheduler:
    """The requests of one model. It moves each request through its stages.

    A request is admitted when a row is free and the KV caches fit the budget at their full
    length, so the device cannot run out of memory later. Those are the batch of all admitted
    requests, the caches of prompts that have not joined it, and the copies for a moment.
    ``held`` gives the slots and positions that the batch has allocated.

    While ``is_paused`` is True, a request is admitted only if no other is: the queue then
    empties slowly rather than never.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_queue_size: int,
        budget: MemoryBudget,
        sizes: CacheSizes,
        held: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ):
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._budget = budget
        self._sizes = sizes
        self._held = held
        self.is_paused = False
        self._waiting: deque[Request] = deque()
        self._admitted: dict[RequestKey, Request] = {}  # all stages from ADMITTED to RUNNING
        self._num_overtakes = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._admitted)

    @property
    def admitted(self) -> list[Request]:
        """The requests that the next step can work on."""
        return list(self._admitted.values())

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_prefilling(self) -> int:
        """The prompts that are not complete, started or not."""
        return len(self.prompts)

    @property
    def prefilled(self) -> list[Request]:
        """The requests with a complete prompt and no sampled token."""
        return self._in_stage(Stage.PREFILLED)

    def shorten(self, request: Request) -> None:
        """Reduce the tokens of the answer to those that the memory holds beside the prompt.

        A request may ask for all that the context has room for, and the context of a model can
        be longer than the memory.
        """
        length, most = len(request.prompt), range(1, request.max_tokens + 1)
        if self._alone(length, request.max_tokens) > self._budget.total:
            longest = bisect_right(most, self._budget.total, key=partial(self._alone, length))
            request.max_tokens = max(longest, 1)

    def refusal(self, request: Request) -> Failed | None:
        """Why the request cannot be queued, None if it can."""
        uid, size = request.key.uid, self._alone(len(request.prompt), request.max_tokens)
        if size > self._budget.total:
            return Failed(
                uid,
                "too_large",
                f"{len(request.prompt)} prompt tokens and an answer need {size / 1e9:.2f} GB "
                "of KV cache, copies included; this node has "
                f"{self._budget.total / 1e9:.2f} GB",
            )
        if len(self._waiting) >= self._max_queue_size:
            free = max(self._budget.free, 0)
            reason = (
                f"{len(self._waiting)} requests are already waiting; this one needs "
                f"{size / 1e9:.2f} GB of KV cache, and {free / 1e9:.2f} GB of "
                f"{self._budget.total / 1e9:.2f} GB are free"
            )
            return Failed(uid, "overloaded", reason)
        return None

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._waiting.append(request)

    def admit(self) -> None:
        """Admit waiting requests to free rows, in the order of their arrival."""
        while self._waiting and len(self._admitted) < self._max_batch_size:
            if self.is_paused and self._admitted:
                return
            request = self._waiting[0]
            if not self._claim([*self._admitted.values(), request]):
                return
            self._admitted[request.key] = self._waiting.popleft()
            request.stage = Stage.ADMITTED

    def next_prefill(self, besides: Sequence[Request] = ()) -> Request | None:
        """The request to prefill next: the one with the fewest remaining tokens, but fair.

        ``besides`` are the requests that are chosen already. A request waits while another one
        prefills a prefix that both share: that prefix is cached afterwards.
        """
        started = self._in_stage(Stage.PREFILLING)
        ready = [
            request
            for request in self.prompts
            if request not in besides
            and (request in started or not any(map(request.shares_prefix, started)))
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

    def start_prefill(self, request: Request) -> None:
        """The first chunk of the prompt is next."""
        request.stage = Stage.PREFILLING

    def finish_prefill(self, request: Request) -> None:
        """The prompt is complete."""
        request.stage = Stage.PREFILLED

    def start(self, request: Request) -> None:
        """The request joins the batch, and has no KV cache of its own any more."""
        request.stage = Stage.RUNNING

    @property
    def youngest(self) -> Request | None:
        """The request that was admitted last and has not ended."""
        admitted = reversed(self._admitted.values())
        return next((request for request in admitted if not request.has_ended), None)

    def has_room_for(self, size: int) -> bool:
        """True if ``size`` bytes that no request has claimed are free now."""
        return size <= self._budget.free

    def settle(self) -> None:
        """Release what the batch holds no more."""
        self._claim([*self._admitted.values()])

    def finish(self, request: Request) -> None:
        """The request has no row any more: release its memory, or its place in the queue."""
        if request.stage is Stage.WAITING:
            self._waiting.remove(request)
        elif request.stage is not Stage.FINISHED:
            del self._admitted[request.key]
            self._claim([*self._admitted.values()])
        request.stage = Stage.FINISHED

    def clear(self) -> list[Request]:
        """Finish all requests; returns them."""
        requests = [*self._waiting, *self._admitted.values()]
        self._waiting.clear()
        self._admitted.clear()
        self._budget.claim(self, 0)
        for request in requests:
            request.stage = Stage.FINISHED
        return requests

    @property
    def prompts(self) -> list[Request]:
        """The admitted requests whose prompt is not complete."""
        return self._in_stage(Stage.ADMITTED, Stage.PREFILLING)

    def _in_stage(self, *stages: Stage) -> list[Request]:
        return [request for request in self._admitted.values() if request.stage in stages]

    def _claim(self, requests: list[Request]) -> bool:
        return self._budget.claim(self, self._needed(requests, self._held()))

    def _alone(self, prompt: int, answer: int) -> int:
        """The bytes of a request without others, from the tokens of its prompt and answer."""
        longest = prompt + answer
        sizes = self._sizes
        return sizes.batch(1, longest) + sizes.copy(1, longest) + sizes.own(prompt)

    def _needed(self, requests: list[Request], held: tuple[int, int]) -> int:
        # All rows of a batch allocate as many positions as the longest.
        longest = max((request.max_length for request in requests), default=0)
        batch = self._sizes.batch(len(requests), longest, held)
        copy = self._sizes.copy(len(requests), longest, held)
        own = sum(
            self._sizes.own(len(request.prompt))
            for request in requests
            if request.stage is not Stage.RUNNING
        )
        return batch + copy + own
