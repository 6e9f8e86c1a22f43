"""One simulated node. ``step`` follows ``TextRunner.step`` of the engine, for one key.

The length of the prompt chunks comes from the engine's own ``PrefillPacing``, which learns from
the simulated times as it does from real ones.
"""

from collections import deque
from dataclasses import dataclass

from mlxnode.engine.pacing import MAX_REMAINDER, PrefillPacing
from scaling.costs import Costs
from scaling.prefixes import Prefixes
from scaling.requests import Request

# Of mlxnode/engine/decode: prefill_order.py and prefill.py. tests/benchmarks compares them.
MAX_OVERTAKEN = 4
MAX_TOGETHER = 256
MAX_PADDING = 1.25


@dataclass(frozen=True)
class Limits:
    """Of ``[engine]``, with the defaults of the node."""

    max_batch_size: int = 32
    max_queue_size: int = 512
    prefill_stall: float = 0.025  # seconds


@dataclass
class Use:
    """What a node has done. Times in seconds, lengths in tokens."""

    prefill: float = 0.0
    decode: float = 0.0
    steps: int = 0
    step_rows: int = 0
    longest_queue: int = 0
    most_memory: float = 0.0  # claimed by rows
    num_displaced: int = 0


class Node:
    """The requests of one model on one machine."""

    def __init__(self, costs: Costs, limits: Limits | None = None):
        self._costs, self._limits = costs, limits or Limits()
        self._pacing = PrefillPacing(self._limits.prefill_stall)
        self._prefixes = Prefixes(costs.memory.prefixes)
        self._waiting: deque[Request] = deque()
        self._prompts: list[Request] = []  # admitted, not complete
        self._rows: list[Request] = []
        self._num_overtakes = 0
        self.num_connections = 0  # of the balancer
        self.use = Use()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._prompts or self._rows)

    @property
    def num_requests(self) -> int:
        return len(self._waiting) + len(self._prompts) + len(self._rows)

    def add(self, request: Request) -> None:
        """Queue a request, or refuse it."""
        fits = request.prompt + min(512, request.answer) <= self._costs.memory.tokens
        if not fits or len(self._waiting) >= self._limits.max_queue_size:
            request.is_refused = True
            return
        self._waiting.append(request)
        self.use.longest_queue = max(self.use.longest_queue, len(self._waiting))

    def step(self, now: float, *, is_beside: bool = False) -> tuple[float, list[Request]]:
        """Prefill, then decode one step. Returns its end, and the requests that end with it.

        ``is_beside``: the other node of the machine works as well. Requests without work for
        them wait: a step always gets on.
        """
        slow = self._costs.beside if is_beside else None
        self._displace()
        self._admit()
        now, complete = self._prefill(now, 1.0 if slow is None else slow.prefill)
        for request in complete:
            _emit(request, now)
        self._rows += [request for request in complete if not request.has_ended]
        ended = [request for request in complete if request.has_ended]
        self._admit()
        if self._rows:
            tokens = sum(request.context for request in self._rows)
            seconds = self._costs.step_seconds(len(self._rows), tokens)
            seconds *= 1.0 if slow is None else slow.decode
            self._pacing.observe_step(seconds)
            now += seconds
            self.use.decode += seconds
            self.use.steps += 1
            self.use.step_rows += len(self._rows)
            for request in self._rows:
                _emit(request, now)
            ended += [request for request in self._rows if request.has_ended]
            self._rows = [request for request in self._rows if not request.has_ended]
        for request in ended:
            self._prefixes.finish(request, self._room(self._admitted))
        return now, ended

    # --- rows and memory --------------------------------------------------------------

    @property
    def _admitted(self) -> list[Request]:
        return [*self._prompts, *self._rows]

    def _room(self, requests: list[Request]) -> float:
        """The tokens that ``requests`` leave: all rows of a batch are as long as one."""
        longest = max((request.num_reserved for request in requests), default=0)
        own = sum(request.context for request in self._prompts)
        return self._costs.memory.tokens - longest * len(requests) - own

    def _admit(self) -> None:
        while self._waiting and len(self._admitted) < self._limits.max_batch_size:
            together = [*self._admitted, self._waiting[0]]
            room = self._room(together) - self._waiting[0].context
            if room < 0 and len(together) > 1:
                return
            self._prompts.append(self._waiting.popleft())
            self._prefixes.shrink(max(room, 0.0))
            used = self._costs.memory.tokens - room
            self.use.most_memory = max(self.use.most_memory, used)

    def _displace(self) -> None:
        """Rows that have grown beyond the memory give up the youngest, which waits again."""
        while len(self._rows) > 1 and self._room(self._admitted) < 0:
            youngest = self._rows.pop()
            self._prefixes.finish(youngest, max(self._room(self._admitted), 0.0))
            youngest.num_prefilled = 0
            self._waiting.appendleft(youngest)
            self.use.num_displaced += 1

    # --- prompts ----------------------------------------------------------------------

    def _prefill(self, now: float, slow: float) -> tuple[float, list[Request]]:
        """Process prompts for as long as the running rows may be delayed; those complete."""
        complete: list[Request] = []
        budget = self._pacing.chunk_size(
            num_running=len(self._rows), num_prompts=len(self._prompts)
        )
        while budget > 0 and self._prompts:
            chosen = self._next_prompts(budget)
            if len(chosen) == 1:
                tokens = _chunk_length(chosen[0].num_to_prefill, budget)
                context = chosen[0].num_prefilled
                counts = [tokens]
            else:
                counts = [request.num_to_prefill for request in chosen]
                tokens, context = max(counts) * len(counts), 0
            # The logits are computed in the pass that completes a prompt, and in no other.
            is_last = counts == [request.num_to_prefill for request in chosen]
            seconds = self._costs.prefill_seconds(tokens, context, is_last=is_last) * slow
            self._pacing.observe_chunk(tokens, seconds)
            now += seconds
            self.use.prefill += seconds
            budget -= max(tokens, 1)
            for request, count in zip(chosen, counts, strict=True):
                request.num_prefilled += count
                if request.num_to_prefill == 0:
                    self._prompts.remove(request)
                    self._prefixes.start(request)
                    complete.append(request)
        return now, complete

    def _next_prompts(self, budget: int) -> list[Request]:
        """The next prompt to process, and others that cost little in the same pass."""
        chosen = [self._start(self._next())]
        for request in sorted(self._ready(), key=lambda r: r.num_to_prefill):
            if request in chosen:
                continue
            counts = [each.num_to_prefill for each in (*chosen, self._start(request))]
            padded = len(counts) * max(counts)
            if padded > min(budget, MAX_TOGETHER, MAX_PADDING * sum(counts)):
                break
            chosen.append(request)
        return chosen

    def _ready(self) -> list[Request]:
        """A prompt waits while another one prefills a prefix that both share."""
        started = {request.system for request in self._prompts if request.num_prefilled}
        return [r for r in self._prompts if r.num_prefilled or r.system not in started] or (
            self._prompts
        )

    def _next(self) -> Request:
        """The shortest prompt, but the oldest one after some that were shorter."""
        ready = self._ready()
        shortest = min(ready, key=lambda request: request.num_to_prefill)
        if shortest is ready[0] or self._num_overtakes >= MAX_OVERTAKEN:
            self._num_overtakes = 0
            return ready[0]
        self._num_overtakes += 1
        return shortest

    def _start(self, request: Request) -> Request:
        """Begin from the cached prefix, if the prompt has not begun."""
        if request.num_prefilled == 0:
            request.num_prefilled = self._prefixes.find(request)
            if request.num_generated == 0:
                request.num_cached = request.num_prefilled
        return request


def _chunk_length(remaining: int, budget: int) -> int:
    return remaining if remaining <= MAX_REMAINDER * budget else budget


def _emit(request: Request, now: float) -> None:
    request.num_generated += 1
    if request.num_generated == 1:
        request.first_token_at = now
    else:
        request.gaps.append(now - request.last_token_at)
    request.last_token_at = now
