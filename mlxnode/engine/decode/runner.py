"""Continuous batching for one model: requests join and leave the batch at any step.

``TextRunner.step`` is the whole engine for one model. It launches the next forward pass before
it reads the tokens of the previous one, so the work of the host is hidden behind the device's.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx

from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.pending_step import PendingStep
from mlxnode.engine.decode.prefix_reuse import PrefixReuse
from mlxnode.engine.decode.prompt_lookup import PromptLookup
from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.sampling import adjustments_of, columns_of
from mlxnode.engine.decode.scheduler import Scheduler
from mlxnode.engine.decode.token_counts import TokenCounts, num_sampled
from mlxnode.engine.pacing import PrefillPacing
from mlxnode.engine.work import CANNOT_SERVE, Output, RequestKey, Runner, Youngest
from mlxnode.figures import RunnerFigures
from mlxnode.messages.data import Embed, Failed, Generate


class TextRunner:
    """Requests of one model that generates text, and their batch.

    A model has two: one for all others, and one for the background (``engine/lanes.py``).
    """

    def __init__(self, parts: TextParts, *, is_background: bool = False):
        """``is_background``: its requests give way to all that are not in the background."""
        self._parts, self._is_background = parts, is_background
        config = parts.config
        alone = PrefillPacing.ALONE_BEHIND if is_background else PrefillPacing.ALONE
        self._pacing = PrefillPacing(config.prefill_stall_ms / 1000, alone)
        self._lookup = PromptLookup(config.num_speculative_tokens)
        self._prefixes, self._prefiller = parts.prefixes, parts.prefiller
        self.measure_passes = parts.passes.measure
        self._batch = Batch(parts.model, parts.sampler, config.num_speculative_tokens)
        self._scheduler = Scheduler(
            config.max_batch_size,
            config.max_queue_size,
            parts.budget,
            parts.sizes,
            held=lambda: self._batch.capacity,
            is_background=is_background,
        )
        self._requests: dict[RequestKey, Request] = {}
        self._compiling: list[Request] = []  # their grammars, in other threads
        self._reuse = PrefixReuse(parts.prefixes, self._batch, parts.sizes, parts.new_cache)
        self._tokens = TokenCounts()
        self._read_at = 0.0  # when the last tokens were read
        self.is_halted = True
        if is_background:
            parts.budget.yielding.append(self.give_up)

    # --- requests -------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self._batch.pending is not None

    @property
    def num_running(self) -> int:
        return len(self._batch)

    @property
    def active(self) -> list[RequestKey]:
        self._compiling = [request for request in self._compiling if request.compiling]
        return [each.key for each in (*self._scheduler.admitted, *self._compiling)]

    @property
    def step_seconds(self) -> float | None:
        return self._pacing.step_seconds if len(self._batch) else None

    @property
    def youngest(self) -> Youngest | None:
        request = self._scheduler.youngest
        if request is None:
            return None
        return Youngest(self._is_background, request.arrived_at, request.key)

    def add(
        self, key: RequestKey, message: Generate | Embed, arrived_at: float | None = None
    ) -> Failed | None:
        """Queue a request, or return why it is refused."""
        if not isinstance(message, Generate) or not message.prompt or message.max_tokens < 1:
            return Failed(key.uid, "internal", CANNOT_SERVE)
        request = Request.of(key, message, random_seed=random.getrandbits(64))
        request.arrived_at = request.arrived_at if arrived_at is None else arrived_at
        return self.add_request(request)

    def add_request(self, request: Request) -> Failed | None:
        """Queue a request, or return why it is refused."""
        self._scheduler.shorten(request)
        refusal = self._scheduler.refusal(request)
        if refusal is None:
            self._parts.grammars.compile(request)
            if request.compiling is not None:
                self._compiling.append(request)
            self._requests[request.key] = request
            self._scheduler.add(request)
            if not self._is_background:  # they are admitted only when it is their turn
                self._scheduler.admit()
        return refusal

    def abort(self, key: RequestKey) -> None:
        """Stop a request in any stage. A running row leaves the batch in the next step."""
        request = self._requests.pop(key, None)
        if request is None:
            return
        request.is_aborted = True
        if request.stage is not Stage.RUNNING:
            self._finish(request)
        elif self.is_halted:
            self._update_rows([])  # the next step may be far

    def fail(self) -> list[RequestKey]:
        """Drop all requests after a step that raised; return those that have not ended."""
        self._scheduler.clear()
        self._prefixes.clear_running()
        self._batch.clear()
        failed = list(self._requests)
        self._requests.clear()
        return failed

    # --- the step -------------------------------------------------------------------

    def step(
        self, others: Sequence[Runner] = (), *, is_brief: bool = False
    ) -> Iterator[list[Output]]:
        """Prefill, then decode one step. Yields outputs as soon as they are known."""
        self.is_halted = False
        if self._is_background:
            self._scheduler.admit()  # those that have come while it stood still
        if self._scheduler.must_displace():
            yield self._read()  # a request without its last tokens could not go on later
            while displaced := self._scheduler.displace():
                self._set_aside(displaced)
        if self._scheduler.num_prefilling:
            yield self._read()  # tokens do not wait for the prompts of others
            self._prefill(is_brief=is_brief)
        prompts, may_wait = self._scheduler.prefilled, not len(self._batch) and not is_brief
        started = self._parts.grammars.start(prompts, wait=may_wait)
        for request in started.failed:
            self._finish(request)
        yield self._forget_ended(started.outputs)
        joining, outputs = self._sample_first_tokens()
        yield outputs

        started_at = time.perf_counter()
        self._scheduler.admit()
        uses_drafts = not joining and self._may_draft()
        if uses_drafts:
            yield self._read()  # a draft continues the tokens that are known
        self._update_rows(joining)
        rows = self._batch.rows
        if rows and uses_drafts and (drafts := self._lookup.draft(rows)) is not None:
            self._batch.verify(drafts, started_at)
            yield self._read()
        elif rows:
            self._batch.forward()
            yield self._read()  # the tokens of the last step, while the device computes
            self._batch.sample(started_at)
        else:
            yield self._read()
        if any(other.has_work and other.step_seconds is None for other in others):
            yield self._read()  # nor for a batch of texts to embed

    def halt(self) -> Iterator[list[Output]]:
        """Stand still until the next step: read the last tokens. Rows keep their KV caches."""
        yield self._read()
        self._update_rows([])
        self.is_halted = True

    def give_up(self, missing: Callable[[], int] | None = None) -> None:
        """Give up rows, one after the other, as long as bytes are ``missing``; None: all.

        Only a runner that is halted gives up rows: no step is under way.
        """
        while self.is_halted and (missing is None or missing() > 0):
            if not (displaced := self._scheduler.give_up()):
                return
            self._set_aside(displaced)
            self._scheduler.settle()

    def _read(self) -> list[Output]:
        """Wait for the sampled tokens, if there are any, and measure their step."""
        step = self._batch.pending
        if step is None:
            return []
        outputs = self._batch.read()
        now = time.perf_counter()
        # The device started the step after its launch and after the step before it.
        seconds, self._read_at = now - max(step.started_at, self._read_at), now
        self._pacing.observe_step(seconds)
        num_tokens = sum(num_sampled(output) for output in outputs)
        is_drafted = step.drafts is not None
        self._tokens.count_step(step, outputs)
        self._lookup.budget.observe(len(step.rows), seconds, num_tokens, is_drafted=is_drafted)
        return self._forget_ended(outputs)

    def _forget_ended(self, outputs: list[Output]) -> list[Output]:
        """Forget the requests that end with ``outputs``; their rows may leave later."""
        self._tokens.count_generated(outputs)
        for output in outputs:
            if output.is_last:
                self._requests.pop(output.key, None)
        return outputs

    def _may_draft(self) -> bool:
        return self._batch.can_verify and self._lookup.is_promising(self._batch.rows)

    def _update_rows(self, joining: list[Request]) -> None:
        """Remove rows that need no further step, and append ``joining``."""
        leaving = [request for request in self._batch.rows if request.needs_no_step]
        if leaving:
            for request in leaving:
                self._finish(request)
            self._batch.leave(leaving)
            self._scheduler.settle()
        joining = [request for request in joining if not request.has_ended]  # aborted meanwhile
        if joining:
            self._batch.join(joining)
            for request in joining:
                self._scheduler.start(request)

    # --- prompts --------------------------------------------------------------------

    def _prefill(self, *, is_brief: bool) -> None:
        """Process prompts for as long as the running rows may be delayed."""
        budget = self._pacing.chunk_size(
            num_running=len(self._batch),
            num_prompts=self._scheduler.num_prefilling,
            is_brief=is_brief,
        )
        while budget > 0 and (requests := self._next_prompts(budget)):
            started_at = time.perf_counter()
            num_processed = self._prefiller.process(requests, budget)
            self._pacing.observe_chunk(num_processed, time.perf_counter() - started_at)
            budget -= max(num_processed, 1)
            for request in requests:
                self._reuse.reach(request)
                if request.num_to_prefill == 0:
                    self._finish_prefill(request)

    def _next_prompts(self, budget: int) -> list[Request]:
        """The next prompt to process, and others that cost little in the same pass."""
        chosen: list[Request] = []
        while (request := self._scheduler.next_prefill(chosen)) is not None:
            if request.stage is Stage.ADMITTED:
                self._scheduler.start_prefill(request)
                self._reuse.start(request, self._scheduler.prompts)
                self._tokens.count_prompt(request)
            if chosen and not self._prefiller.fit_together([*chosen, request], budget):
                break
            chosen.append(request)
        return chosen

    def _finish_prefill(self, request: Request) -> None:
        """The prompt is complete: other requests can reuse it as a prefix."""
        self._scheduler.finish_prefill(request)
        self._reuse.offer(request)

    def _sample_first_tokens(self) -> tuple[list[Request], list[Output]]:
        """Sample and read the first token of each complete prompt.

        Returns the requests that continue, and the outputs of all.
        """
        rows = [request for request in self._scheduler.prefilled if request.compiling is None]
        if not rows:
            return [], []
        logits = mx.concatenate([request.prompt_logits for request in rows])
        columns, adjustments = columns_of(rows), adjustments_of(rows)
        sampled = self._parts.sampler.launch(rows, logits, columns, adjustments)
        outputs = self._forget_ended(PendingStep(rows, sampled).read())
        for request in rows:
            request.logits = None
            request.num_sampled += 1
            if request.has_ended:
                self._finish(request)
        return [request for request in rows if not request.has_ended], outputs

    # --- the end of a request, and of its row ---------------------------------------

    def _set_aside(self, displaced: list[Request]) -> None:
        """Take the rows of requests, which wait again; their KV caches become prefixes."""
        leaving = [request for request in displaced if request.stage is Stage.RUNNING]
        for request in displaced:
            if request.stage is Stage.RUNNING:
                self._reuse.keep_row(request)
            elif request.cache is not None:
                self._reuse.keep_prompt(request)
            self._reuse.close(request)
            request.set_aside()
        if leaving:
            self._batch.leave(leaving)
            self._scheduler.settle()

    def _finish(self, request: Request) -> None:
        """Release the memory of a request, and keep its KV cache as a prefix."""
        is_kept = not self._scheduler.is_paused  # memory is short otherwise
        if request.stage is Stage.RUNNING and is_kept:
            self._reuse.keep_row(request)
        self._scheduler.finish(request)
        if request.cache is not None and is_kept:
            self._reuse.keep_prompt(request)
        self._reuse.close(request)

    def pause(self, is_paused: bool) -> None:
        self._scheduler.is_paused = is_paused

    def drop_caches(self) -> None:
        self._prefixes.clear()

    def reserve_activations(self, available: int, context_length: int) -> int:
        return self._parts.reserve_activations(available, context_length)

    @property
    def kv_needed(self) -> int:
        return self._scheduler.kv_needed

    def figures(self) -> RunnerFigures:
        return self._tokens.figures(
            num_running=len(self._batch),
            num_waiting=self._scheduler.num_waiting + self._scheduler.num_prefilling,
            num_background=len(self._requests) if self._is_background else 0,
            prefix_bytes=self._prefixes.nbytes,
            prefix_entries=self._prefixes.num_entries,
        )

    def do_idle_work(self) -> bool:
        return self._parts.do_idle_work()

    def close(self) -> None:
        self._scheduler.close()
        self._batch.clear()
        if self._is_background:
            self._parts.budget.yielding.remove(self.give_up)
        else:
            self._parts.close()
