"""Continuous batching for one model: requests join and leave the batch at any step.

``TextRunner.step`` is the whole engine for one model. It launches the next forward pass before
it reads the tokens of the previous one, so the work of the host is hidden behind the device's.
"""

import random
import time
from collections.abc import Iterator, Sequence

import mlx.core as mx
from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.activations import PassMemory
from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.grammars import Grammars, MakeCompiler
from mlxnode.engine.decode.pending_step import PendingStep
from mlxnode.engine.decode.prefill import MAX_CHUNK, Prefiller
from mlxnode.engine.decode.prefix_reuse import PrefixReuse
from mlxnode.engine.decode.prompt_lookup import PromptLookup
from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.sampling import Sampler, adjustments_of, columns_of
from mlxnode.engine.decode.scheduler import Scheduler
from mlxnode.engine.decode.token_counts import TokenCounts, num_sampled
from mlxnode.engine.kvcache.budget import MemoryBudget, measure_caches
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.prompt_cache import new_prompt_cache
from mlxnode.engine.pacing import PrefillPacing
from mlxnode.engine.work import CANNOT_SERVE, Output, RequestKey, Runner
from mlxnode.figures import RunnerFigures
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.messages.data import Embed, Failed, Generate


class TextRunner:
    """The requests of one model that generates text, and its batch."""

    def __init__(
        self,
        model: nn.Module,
        config: EngineConfig,
        budget: MemoryBudget,
        make_compiler: MakeCompiler,
        kernels: Kernels = OPS,
        store: PrefixStore | None = None,
    ):
        """``store`` keeps prefixes on disk."""
        self._model = model
        self._grammars = Grammars(model, make_compiler)
        self._sampler = Sampler(kernels)
        if kernels.warm is not None:
            # Only the dtype of the logits is needed, so nothing is computed.
            kernels.warm(sampling=[model(mx.zeros((1, 1), mx.int32)).dtype])
        self._pacing = PrefillPacing(config.prefill_stall_ms / 1000)
        self._lookup = PromptLookup(config.num_speculative_tokens)
        self._prefixes = PrefixCache(
            lambda: budget.share(config.prefix_cache_gb),
            budget,
            store,
            lambda: budget.share(config.snapshot_cache_gb),
        )
        sizes = measure_caches(
            model, config.kv_cache_bits, surplus=config.num_speculative_tokens, chunk=MAX_CHUNK
        )
        self._batch = Batch(model, self._sampler, config.num_speculative_tokens)
        self._scheduler = Scheduler(
            config.max_batch_size,
            config.max_queue_size,
            budget,
            sizes,
            held=lambda: self._batch.capacity,
        )
        self._prefiller = Prefiller(
            model,
            kernels,
            lambda rows, length: self._scheduler.has_room_for(sizes.together(rows, length)),
        )
        self._passes = PassMemory(model, config)
        self.measure_passes = self._passes.measure
        self._requests: dict[RequestKey, Request] = {}
        self._compiling: list[Request] = []  # their grammars, in other threads
        self._reuse = PrefixReuse(
            self._prefixes,
            self._batch,
            sizes,
            new_cache=lambda: new_prompt_cache(model, config.kv_cache_bits),
        )
        self._tokens = TokenCounts()
        self._read_at = 0.0  # when the last tokens were read

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
    def youngest(self) -> tuple[float, RequestKey] | None:
        request = self._scheduler.youngest
        return None if request is None else (request.arrived_at, request.key)

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
            self._grammars.compile(request)
            if request.compiling is not None:
                self._compiling.append(request)
            self._requests[request.key] = request
            self._scheduler.add(request)
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

    def fail(self) -> list[RequestKey]:
        """Drop all requests after a step that raised; return those that have not ended."""
        self._scheduler.clear()
        self._prefixes.clear_running()
        self._batch.clear()
        failed = list(self._requests)
        self._requests.clear()
        return failed

    # --- the step -------------------------------------------------------------------

    def step(self, others: Sequence[Runner] = ()) -> Iterator[list[Output]]:
        """Prefill, then decode one step. Yields outputs as soon as they are known."""
        if self._scheduler.must_displace():
            yield self._read()  # a request without its last tokens could not go on later
            while displaced := self._scheduler.displace():
                self._set_aside(displaced)
        if self._scheduler.num_prefilling:
            yield self._read()  # tokens do not wait for the prompts of others
            self._prefill()
        started = self._grammars.start(self._scheduler.prefilled, wait=not len(self._batch))
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

    def _prefill(self) -> None:
        """Process prompts for as long as the running rows may be delayed."""
        budget = self._pacing.chunk_size(
            num_running=len(self._batch), num_prompts=self._scheduler.num_prefilling
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
        sampled = self._sampler.launch(rows, logits, columns_of(rows), adjustments_of(rows))
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
        """Drop the cached prefixes of requests that have ended."""
        self._prefixes.clear()

    def reserve_activations(self, available: int, context_length: int) -> int:
        """The bytes to keep free for passes; prompt chunks are then short enough for them."""
        size = self._passes.reserve(available, context_length)
        self._prefiller.max_chunk = self._passes.max_chunk
        return size

    @property
    def kv_needed(self) -> int:
        return self._scheduler.kv_needed

    def figures(self) -> RunnerFigures:
        return RunnerFigures(
            num_running=len(self._batch),
            num_waiting=self._scheduler.num_waiting + self._scheduler.num_prefilling,
            prompt_tokens=self._tokens.prompt,
            cached_tokens=self._tokens.cached,
            generated_tokens=self._tokens.generated,
            steps=self._tokens.steps,
            step_rows=self._tokens.step_rows,
            drafted_tokens=self._tokens.drafted,
            accepted_tokens=self._tokens.accepted,
            prefix_bytes=self._prefixes.nbytes,
            prefix_entries=self._prefixes.num_entries,
        )

    def do_idle_work(self) -> bool:
        """Write one prefix to disk; False if all are written."""
        if is_needed := self._prefixes.has_unsaved:
            self._prefixes.save_next()
        return is_needed

    def close(self) -> None:
        self._grammars.close()
        self._scheduler.close()
        self._batch.clear()
        self._prefixes.close()
