"""Which request runs next. Plain Python, without mlx arrays."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from mlxnode.engine.decode.prefill_order import PrefillOrder
from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.shares import displaceable, expendable
from mlxnode.engine.decode.waiting import WaitingRequests
from mlxnode.engine.kvcache.budget import CacheSizes, MemoryBudget
from mlxnode.engine.work import RequestKey, in_units
from mlxnode.messages.data import Failed

# For so many tokens of its answer, a request has memory when it starts, and for so many more
# each time it has used that up. Most answers are far shorter than what their clients allow.
ANSWER_STEP = 512


class Scheduler:
    """The requests of one model. It moves each request through its stages.

    A request is admitted when a row is free and the KV caches fit the budget, with
    ``answer_step`` tokens of each answer: the batch of all admitted requests, the caches of
    prompts that have not joined it, and the copies for a moment. A row that comes to the end
    of that memory gets more before it goes on, so the device never runs out of it. If there is
    no more, rows are given up. ``held`` gives the slots and positions that the batch has
    allocated.

    The keys share the rows (``waiting.py``). A key that comes when all rows are taken gets a
    row of a key that has several (``shares.py``): ``displace``.

    While ``is_paused`` is True, a request is admitted only if no other is: the queue then
    empties slowly rather than never.

    ``is_background``: its claims take no memory from other requests, and the claims of others
    take its memory.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_queue_size: int,
        budget: MemoryBudget,
        sizes: CacheSizes,
        held: Callable[[], tuple[int, int]] = lambda: (0, 0),
        *,
        answer_step: int = ANSWER_STEP,
        is_background: bool = False,
    ):
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._budget = budget
        self._sizes = sizes
        self._held = held
        self._answer_step = answer_step
        self._is_background = is_background
        self.is_paused = False
        self._waiting = WaitingRequests()
        self._admitted: dict[RequestKey, Request] = {}  # all stages from ADMITTED to RUNNING
        self._prefill_order = PrefillOrder()
        self._has_changed = False  # since ``_is_row_owed`` was False
        self._is_short = False  # of memory for rows that grow

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
                f"{len(request.prompt)} prompt tokens and an answer need {in_units(size)} of "
                f"KV cache, copies included; this node has {in_units(self._budget.total)}. "
                "Shorten the prompt",
            )
        if self._waiting.is_full_for(request, self._max_queue_size):
            reason = (
                f"{len(self._waiting)} requests are already waiting for this model, and this "
                "client has its share of them (engine.max_queue_size); try again later"
            )
            return Failed(uid, "overloaded", reason)
        return None

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._waiting.add(request)
        self._has_changed = True

    def admit(self) -> None:
        """Admit waiting requests to free rows, as their keys share them."""
        while len(self._admitted) < self._max_batch_size:
            if self.is_paused and self._admitted:
                return
            request = self._next()
            if request is None or not self._claim_for(request, self._admitted.values()):
                return
            self._admit(request)

    def must_displace(self) -> bool:
        """True if rows have to be given up, for memory or for who has a right to one.

        Rows that come to the end of their memory get more, if there is more.
        """
        growing = [request for request in self._admitted.values() if request.must_grow]
        for request in growing:
            request.reserve(self._answer_step)
        self._is_short = bool(growing) and not self._claim([*self._admitted.values()])
        return self._is_short or self._is_row_owed

    def displace(self) -> list[Request]:
        """Take the rows of requests, as few as possible; returns them. None: all is well.

        They wait again, as the first of their keys. ``Request.set_aside`` follows, for each
        of them, before the next call.
        """
        displaced = (self._is_short and self._displace_for_memory()) or self._displace_for_one()
        for other in displaced:
            self._waiting.put_back(other)
        return displaced

    def _displace_for_memory(self) -> list[Request]:
        """One request gives up its row, unless the others fit now.

        One that is alone fits, if other models do not have the memory.
        """
        admitted = list(self._admitted.values())
        self._is_short = not self._claim(admitted)
        displaced = list(islice(expendable(admitted), self._is_short))
        for other in displaced:
            del self._admitted[other.key]
        return displaced

    def give_up(self) -> list[Request]:
        """Take the row of one request, whoever it is for; none if there is no row.

        It waits again. ``Request.set_aside`` follows.
        """
        displaced = list(islice(expendable([*self._admitted.values()]), 1))
        for other in displaced:
            del self._admitted[other.key]
            self._waiting.put_back(other)
        return displaced

    @property
    def _is_row_owed(self) -> bool:
        """True if a waiting request has a right to the row of another one."""
        if not self._has_changed or self.is_paused or not self._waiting:
            return False  # the usual case, in each step
        request = self._next_without_row()
        self._has_changed = request is not None and any(
            True for _ in self._displaceable(request)
        )
        return self._has_changed

    def _displace_for_one(self) -> list[Request]:
        """Admit a request that has a right to a row, in place of others."""
        request = self._next_without_row()
        if request is None:
            return []
        displaced: list[Request] = []
        left = dict(self._admitted)
        for other in self._displaceable(request):
            displaced.append(other)
            del left[other.key]
            if self._claim_for(request, left.values()):
                self._admitted = left
                self._admit(request)
                return displaced
        self._has_changed = False  # the memory is the limit, until a request ends
        return []

    def next_prefill(self, besides: Sequence[Request] = ()) -> Request | None:
        """The request to prefill next, among the admitted ones (``prefill_order.py``).

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
        return self._prefill_order.next(ready, is_first=not besides)

    def start_prefill(self, request: Request) -> None:
        """The first chunk of the prompt is next."""
        request.stage = Stage.PREFILLING
        request.start()

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

    @property
    def kv_needed(self) -> int:
        """The bytes with which all requests can end: those of now, or of the longest alone.

        In the background, it is always the longest alone: the others can wait.
        """
        alone = [
            self._alone(len(request.prompt), request.max_tokens)
            for request in (*self._waiting, *self._admitted.values())
        ]
        return max([0 if self._is_background else self._budget.claimed_by(self), *alone])

    def settle(self) -> None:
        """Release what the batch holds no more."""
        self._claim([*self._admitted.values()])

    def finish(self, request: Request) -> None:
        """The request has no row any more: release its memory, or its place in the queue."""
        self._has_changed = True
        if request.stage is Stage.WAITING:
            self._waiting.remove(request)
        elif request.stage is not Stage.FINISHED:
            del self._admitted[request.key]
            self._waiting.charge(request)
            self._claim([*self._admitted.values()])
        request.stage = Stage.FINISHED

    def close(self) -> None:
        """Finish all requests, and give up the place in the budget."""
        self.clear()
        self._budget.drop(self)

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

    def _next(self) -> Request | None:
        is_last_row = len(self._admitted) + 1 == self._max_batch_size
        return self._waiting.next(self._admitted.values(), is_last_row=is_last_row)

    def _next_without_row(self) -> Request | None:
        """The next request, unless it will get a row in any case, or none is to start."""
        has_free_row = any(request.has_ended for request in self._admitted.values())
        return None if self.is_paused or has_free_row else self._next()

    def _admit(self, request: Request) -> None:
        self._waiting.take(request)
        self._has_changed = True
        self._admitted[request.key] = request
        request.stage = Stage.ADMITTED

    def _displaceable(self, request: Request) -> Iterator[Request]:
        admitted = list(self._admitted.values())
        return displaceable(request, admitted, self._max_batch_size)

    def _in_stage(self, *stages: Stage) -> list[Request]:
        return [request for request in self._admitted.values() if request.stage in stages]

    def _claim_for(self, request: Request, others: Iterable[Request]) -> bool:
        """Claim the memory with which ``request`` can start beside ``others``."""
        request.reserve(self._answer_step)
        return self._claim([*others, request])

    def _claim(self, requests: list[Request]) -> bool:
        size = self._needed(requests, self._held())
        return self._budget.claim(self, size, displaces=not self._is_background)

    def _alone(self, prompt: int, answer: int) -> int:
        """The bytes of a request without others, from the tokens of its prompt and answer."""
        longest = prompt + answer
        sizes = self._sizes
        return sizes.batch(1, longest) + sizes.copy(1, longest) + sizes.own(prompt)

    def _needed(self, requests: list[Request], held: tuple[int, int]) -> int:
        # All rows of a batch allocate as many positions as the longest.
        longest = max((request.num_reserved for request in requests), default=0)
        batch = self._sizes.batch(len(requests), longest, held)
        copy = self._sizes.copy(len(requests), longest, held)
        own = sum(
            self._sizes.own(len(request.context))
            for request in requests
            if request.stage is not Stage.RUNNING
        )
        return batch + copy + own
