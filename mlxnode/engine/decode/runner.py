"""Continuous batching for one model: requests join and leave the batch at any step.

A step is ``decode``, which launches the next forward pass before it reads the previous token of
every row, and ``draw``. So Python's work hides behind the device's: what was read can be told
between the two, and where a draw depends on the text so far (penalties, grammars), what follows
from it is worked out meanwhile. A row that ends is noticed one step late; its surplus token is
dropped. Drafts depend on the text as well: they are tried where that saves more time than it
costs (``drafts.py``).

While there are prompts, ``settle`` and ``prefill`` come before it: what runs is read, and a
piece of prompt is processed. ``begin`` draws the first token of the prompts that are complete;
they are in the next launch.
"""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait

import mlx.core as mx
import numpy as np
from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.pending_step import Launch, Output, failure
from mlxnode.engine.decode.prefill import Prefiller
from mlxnode.engine.decode.prompt_lookup import Allowance, Drafter
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.sampling import adjustments_of, columns_of, masks_of
from mlxnode.engine.decode.scheduler import MemoryBudget, PrefillClock, Refusal, Scheduler
from mlxnode.engine.kvcache.batch import BatchCache, Row, can_be_cut, cut, measure_batch
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import RunningText
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.grammar import GrammarError
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Adjustments, Sampled, SamplingColumns

MAX_DRAFTED_ROWS = 8  # larger batches keep the device busy without drafts


class Runner:
    """The running batch of one model, and the requests that wait to join it."""

    def __init__(
        self,
        model: nn.Module,
        config: EngineConfig,
        budget: MemoryBudget,
        make_compiler: Callable[[int, frozenset[int]], GrammarCompiler],
        kernels: Kernels = OPS,
        store: PrefixStore | None = None,
    ):
        """``make_compiler`` takes the vocabulary size of the logits and the stop ids.

        ``store`` keeps known texts on disk.
        """
        self._model = model
        self._make_compiler = make_compiler
        self._compiler: GrammarCompiler | None = None
        self._sample = kernels.sample
        self._clock = PrefillClock(config.prefill_stall_ms / 1000)
        self._max_draft = config.num_speculative_tokens
        self._allowance = Allowance()
        self._prefixes = PrefixCache(
            lambda: (
                budget.total // 4
                if config.prefix_cache_gb is None
                else int(config.prefix_cache_gb * 1e9)
            ),
            budget,
            store,
        )
        self._prompts = Prefiller(model, config.kv_cache_bits, self._prefixes, kernels)
        self._scheduler = Scheduler(
            config.max_batch_size,
            config.max_queue_size,
            budget,
            measure_batch(model, config.kv_cache_bits, surplus=config.num_speculative_tokens),
        )
        self._reset()

    def _reset(self) -> None:
        self._rows: list[Request] = []  # in the order of the cache's rows
        self._beginning: list[Request] = []  # prefilled, without a first token
        self._joining: list[Request] = []  # with one, in the batch from the next launch on
        self._cache = BatchCache()
        self._columns: SamplingColumns | None = None
        self._adjustments: Adjustments | None = None
        self._undrawn: tuple[mx.array, float] | None = None  # logits [B, V], launched when
        self._in_flight: Launch | None = None
        self._read_at = 0.0  # when the last launch was read
        self._prefixes.forget_running()

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self._in_flight is not None

    @property
    def num_running(self) -> int:
        return len(self._rows)

    @property
    def decode_seconds(self) -> float | None:
        """How long a decode step takes, None when nothing runs."""
        return self._clock.step_seconds if self._rows else None

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each running row."""
        return self._cache.lengths

    @property
    def num_waiting(self) -> int:
        return self._scheduler.num_waiting

    def add(self, request: Request) -> Refusal | None:
        """Queue a request, or say why it is refused."""
        refusal = self._scheduler.refusal(request)
        if refusal is None:
            if request.sampling.grammar is not None:
                request.compiling = self._grammars(request).submit(request.sampling.grammar)
            self._scheduler.add(request)
            self._scheduler.admit()
        return refusal

    def abort(self, request: Request) -> None:
        """Stop a request wherever it is; a row leaves the batch with the next launch."""
        request.is_aborted = True
        for requests in (self._beginning, self._joining):
            if request in requests:
                requests.remove(request)
                self._release(request)
                return
        if request not in self._rows:
            self._scheduler.discard(request)

    def fail(self) -> list[Request]:
        """Drop every request, after a step that raised; returns those it had."""
        requests = self._scheduler.drop_all()
        if self._in_flight is not None:
            requests += [r for r in self._in_flight.rows if r not in requests]
        self._reset()
        return [request for request in requests if not request.is_done]

    def decode(self) -> list[Output]:
        """Launch the forward pass to every row's next token, and read the tokens before it."""
        started_at = time.perf_counter()
        self._scheduler.admit()
        previous, outputs = self._in_flight, []
        is_drafting = self._may_draft()
        if is_drafting:
            outputs += self._read(previous)
        tokens = self._update_rows()
        if tokens is None:
            self._in_flight = None
            return outputs + self._read(previous)
        drafts = self._draft() if is_drafting else None
        if drafts:
            return outputs + self._decode_drafts(drafts, started_at)
        logits = self._model(tokens[:, None], cache=self._cache.layers)[:, -1]
        self._cache.advance([1] * len(self._rows))
        mx.async_eval(logits)  # the device goes on while the host reads
        self._undrawn = logits, started_at
        return outputs + self._read(previous)

    def draw(self) -> None:
        """Launch the draws behind the forward pass that ``decode`` launched."""
        if self._undrawn is not None:
            logits, started_at = self._undrawn
            self._undrawn = None
            self._in_flight = self._launch(logits, started_at)

    @property
    def has_unsaved(self) -> bool:
        """Whether there are texts to write to disk, one by one with ``save_next``."""
        return self._prefixes.has_unsaved

    def save_next(self) -> None:
        """Write a text that others may begin like to disk."""
        self._prefixes.save_next()

    @property
    def has_prompts(self) -> bool:
        """Whether there are prompts to process."""
        return self._scheduler.num_prefilling > 0

    def settle(self) -> list[Output]:
        """Wait for the tokens under way: prompts come next, and none has to wait for them."""
        return self._read(self._in_flight)

    def prefill(self) -> None:
        """Process prompts for as long as the running rows may be kept waiting."""
        num_left = self._clock.chunk_size(
            num_running=len(self._rows), num_prompts=self._scheduler.num_prefilling
        )
        while num_left > 0 and (requests := self._next_prompts(num_left)):
            started_at = time.perf_counter()
            num_processed = self._prompts.process(requests, num_left)
            self._clock.observe_chunk(num_processed, time.perf_counter() - started_at)
            num_left -= max(num_processed, 1)
            for request in requests:
                if request.num_to_prefill == 0:
                    self._finish_prefill(request)

    def begin(self) -> list[Output]:
        """Draw the first tokens of complete prompts, and read them at once."""
        outputs = self._start_grammars()
        rows = [request for request in self._beginning if request.compiling is None]
        if not rows:
            return outputs
        logits = mx.concatenate([request.logits for request in rows])
        sampled = self._draw(rows, logits, columns_of(rows), adjustments_of(rows))
        outputs += Launch(rows, sampled).read()
        for request in rows:
            request.logits = None
            request.num_launched = 1
            self._beginning.remove(request)
            if request.is_done:
                self._release(request)
            else:
                self._joining.append(request)
        return outputs

    def _next_prompts(self, most: int) -> list[Request]:
        """The next prompt to process, and others that cost little in the same pass."""
        chosen: list[Request] = []
        while (request := self._scheduler.next_prefill(chosen)) is not None:
            if request.cache is None:
                self._prompts.begin(request)
            if chosen and not self._prompts.fit_together([*chosen, request], most):
                break
            chosen.append(request)
        return chosen

    def _finish_prefill(self, request: Request) -> None:
        """Its prompt is complete: it may begin, and others may begin like it."""
        self._scheduler.finish_prefill(request)
        self._beginning.append(request)
        request.text = RunningText(
            request.prompt, functools.partial(self._take, request), request.logits
        )
        if can_be_cut(request.cache):
            self._prefixes.begin(request.text)
        else:  # the batch could not give it back
            self._prefixes.add(request.prompt, request.cache, request.text)

    def _launch(self, logits: mx.array, started_at: float) -> Launch:
        """Launch the draw of every row's next token."""
        rows = self._rows
        if self._columns is None:
            self._columns = columns_of(rows)
            self._adjustments = adjustments_of(rows)
        elif any(request.changes_adjustments for request in rows):
            self._adjustments = adjustments_of(rows)
        sampled = self._draw(rows, logits, self._columns, self._adjustments)
        for request in rows:
            request.num_launched += 1
        return Launch(list(rows), sampled, started_at=started_at)

    def _draw(
        self,
        rows: Sequence[Request],
        logits: mx.array,
        columns: SamplingColumns,
        adjustments: Adjustments | None,
        places: Sequence[int] | None = None,
    ) -> Sampled:
        """Launch a draw for each row; ``places`` are those ahead of its next token, if not 0.

        Shapes:
            rows: B, logits: [B, V], places: B
        """
        places = places or [0] * len(rows)
        at = [request.num_launched + place for request, place in zip(rows, places, strict=True)]
        asked = [n for row in rows if (n := row.sampling.top_logprobs) is not None]
        sampled = self._sample(
            logits,
            columns,
            column(at, np.uint32, 0),
            adjustments,
            masks_of(rows, logits.shape[-1]),
            max(asked, default=0),
            needs_logprobs=bool(asked),
        )
        mx.async_eval(*(array for array in sampled if array is not None))
        return sampled

    # --- drafts ---------------------------------------------------------------------

    def _may_draft(self) -> bool:
        """Whether to read the previous tokens first, in order to guess the next ones."""
        rows = self._rows
        is_small = 0 < len(rows) <= MAX_DRAFTED_ROWS
        if not (self._max_draft and is_small and self._cache.can_rewind) or self._joining:
            return False
        for request in rows:
            if request.drafter is None:
                request.drafter = Drafter(request.prompt + request.tokens)
        return (
            self._allowance.has_room(len(rows))
            and not any(request.needs_text or request.holds_back_stops for request in rows)
            and sum(bool(request.drafter.draft(1)) for request in rows) > len(rows) // 2
        )

    def _draft(self) -> list[list[int]] | None:
        """Guesses at the next tokens of every row, None if there are none."""
        drafts = [
            request.drafter.draft(min(self._max_draft, request.num_to_launch - 1))
            for request in self._rows
        ]
        return drafts if any(drafts) else None

    def _decode_drafts(self, drafts: list[list[int]], started_at: float) -> list[Output]:
        """Draw the next token at every place of the drafts; read those that hold."""
        width = 1 + max(map(len, drafts))
        padded = [
            (request.tokens[-1:] + draft + [0] * width)[:width]
            for request, draft in zip(self._rows, drafts, strict=True)
        ]
        logits = self._model(mx.array(padded, mx.int32), cache=self._cache.layers)
        rows = [request for request in self._rows for _ in range(width)]
        places = [*range(width)] * len(self._rows)
        columns, adjustments = columns_of(rows), adjustments_of(rows)
        sampled = self._draw(rows, logits.flatten(0, 1), columns, adjustments, places)
        self._in_flight = Launch(list(self._rows), sampled, drafts, started_at=started_at)
        outputs = self._read(self._in_flight)
        # What was written of wrong guesses is behind the end, and will be written again.
        self._cache.advance([len(r.tokens) - r.num_launched for r in self._rows])
        for request in self._rows:
            request.num_launched = len(request.tokens)
        return outputs

    # --- rows -----------------------------------------------------------------------

    def _start_grammars(self) -> list[Output]:
        """Give its grammar to each joining row, and end those whose grammar failed."""
        failed = []
        waiting = [r.compiling for r in self._beginning if r.compiling]
        if waiting and not self._rows:
            wait(waiting, timeout=0.01)  # nothing else to do: no reason to spin
        for request in [r for r in self._beginning if r.compiling and r.compiling.done()]:
            try:
                request.grammar = request.compiling.result()
            except GrammarError as error:
                self.abort(request)
                failed.append(failure(request, str(error)))
            request.compiling = None
        return failed

    def _grammars(self, request: Request) -> GrammarCompiler:
        """The compiler of the model's grammars, made when it is first needed."""
        if self._compiler is None:
            # Nothing is evaluated: the shape of the logits is enough.
            logits = self._model(mx.zeros((1, 1), mx.int32))
            self._compiler = self._make_compiler(logits.shape[-1], request.stop_ids)
        return self._compiler

    def _update_rows(self) -> mx.array | None:
        """Let rows leave and join; returns the input token of each row, [B], if any is left."""
        leaving = [r for r in self._rows if r.is_done or r.is_fully_launched]
        inputs = []
        if len(leaving) < len(self._rows):
            inputs = [self._in_flight.last_tokens]
        if leaving:
            places = [i for i, request in enumerate(self._rows) if request in leaving]
            for request in leaving:
                self._release(request)
            kept = self._cache.leave(places)
            self._rows = [self._rows[i] for i in kept]
            self._columns = None
            inputs = [tokens[mx.array(kept)] for tokens in inputs]
        if self._joining:
            self._cache.join([request.cache for request in self._joining])
            first = [request.tokens[0] for request in self._joining]
            inputs.append(mx.array(first, mx.int32))
            for request in self._joining:
                request.cache = None
            self._rows += self._joining
            self._joining = []
            self._columns = None
        if not inputs:
            return None
        return inputs[0] if len(inputs) == 1 else mx.concatenate(inputs)

    def _release(self, request: Request) -> None:
        """Give up its place; later turns of the conversation find what it holds."""
        self._scheduler.release(request)
        row, text = None, request.prompt + request.tokens
        if self._prefixes.is_enabled and not request.has_failed:
            text = text[: self._length(request)]
            row = self._take(request, len(text))
        self._prefixes.end(request.text, text, row)

    def _length(self, request: Request) -> int:
        """Tokens in its caches, which may be one more than were read."""
        if request.cache is not None:
            return len(request.prompt)
        return self._cache.lengths[self._rows.index(request)]

    def _take(self, request: Request, length: int) -> Row | None:
        """A copy of the caches of the first so many tokens, None where that cannot be."""
        if request.cache is None:
            return self._cache.extract(self._rows.index(request), length)
        return cut(request.cache, length, is_copy=True) if can_be_cut(request.cache) else None

    def _read(self, launch: Launch | None) -> list[Output]:
        """What a launch brought, if it is not read yet."""
        if launch is None or launch.is_read:
            return []
        outputs = launch.read()
        now = time.perf_counter()
        # It began when it was launched, or when the device had finished the one before.
        seconds, self._read_at = now - max(launch.started_at, self._read_at), now
        self._clock.observe_step(seconds)
        num_tokens = sum(max(len(output.tokens), 1) for output in outputs)
        is_drafted = launch.drafts is not None
        self._allowance.observe(len(launch.rows), seconds, num_tokens, is_drafted=is_drafted)
        return outputs
