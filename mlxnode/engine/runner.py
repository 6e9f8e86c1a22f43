"""Continuous batching for one model: requests join and leave the batch at any step.

A step is ``decode``, which launches the next token of every row before it reads the previous
one, so that Python's work hides behind the device's. While there are prompts, ``settle`` and
``prefill`` come before it: what runs is read, a piece of prompt is processed, and a prompt that
is complete is in the next launch. A row that ends is noticed one step late; its surplus token
is dropped. Where the next token depends on the text so far (penalties, grammars), only the
forward pass is launched before the previous token is read, and what follows from it is worked
out meanwhile.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from mlx import nn

from mlxnode.config import EngineConfig
from mlxnode.engine.cache import BatchCache, make_row, measure_batch
from mlxnode.engine.grammar import GrammarCompiler
from mlxnode.engine.guidance import adjustments_of, masks_of
from mlxnode.engine.prefix import PrefixCache
from mlxnode.engine.request import Request
from mlxnode.engine.scheduler import MemoryBudget, PrefillClock, Refusal, Scheduler
from mlxnode.engine.scoring import score
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Adjustments, Sampled, SamplingColumns
from mlxnode.matcher import GrammarError

SCORED_CHUNK = 128  # prompt tokens at a time whose logits are all needed at once


class Output(NamedTuple):
    """What one step brought for one request; ``token`` is None when only an end came."""

    request: Request
    token: int | None
    logprob: float
    error: str | None = None
    top_logprobs: dict[int, float] | None = None  # the most likely tokens, if asked for


@dataclass
class Launch:
    """A decode step on its way: the rows it was made for, and the arrays to come."""

    rows: list[Request]
    sampled: Sampled
    is_read: bool = False


class Runner:
    """The running batch of one model, and the requests that wait to join it."""

    def __init__(
        self,
        model: nn.Module,
        config: EngineConfig,
        budget: MemoryBudget,
        make_compiler: Callable[[int, frozenset[int]], GrammarCompiler],
        kernels: Kernels = OPS,
    ):
        """``make_compiler`` takes the vocabulary size of the logits and the stop ids."""
        self._model = model
        self._make_compiler = make_compiler
        self._compiler: GrammarCompiler | None = None
        self._sample = kernels.sample
        self._clock = PrefillClock(config.prefill_stall_ms / 1000)
        self._kv_bits = config.kv_cache_bits
        self._prefixes = PrefixCache(
            lambda: (
                budget.total // 4
                if config.prefix_cache_gb is None
                else int(config.prefix_cache_gb * 1e9)
            ),
            budget,
        )
        self._scheduler = Scheduler(
            config.max_batch_size,
            config.max_queue_size,
            budget,
            measure_batch(model, config.kv_cache_bits),
        )
        self._reset()

    def _reset(self) -> None:
        self._rows: list[Request] = []  # in the order of the cache's rows
        self._joining: list[Request] = []  # prefilled, in the batch from the next launch on
        self._cache = BatchCache()
        self._columns: SamplingColumns | None = None
        self._adjustments: Adjustments | None = None
        self._in_flight: Launch | None = None
        self._launched_at = 0.0

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self._in_flight is not None

    @property
    def num_running(self) -> int:
        return len(self._rows)

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
        if request in self._joining:
            self._joining.remove(request)
            self._scheduler.release(request)
        elif request not in self._rows:
            self._scheduler.discard(request)

    def fail(self) -> list[Request]:
        """Drop every request, after a step that raised; returns those it had."""
        requests = self._scheduler.drop_all()
        if self._in_flight is not None:
            requests += [r for r in self._in_flight.rows if r not in requests]
        self._reset()
        return [request for request in requests if not request.is_done]

    def decode(self) -> list[Output]:
        """Launch the next token of every row, and read the previous ones."""
        self._launched_at = time.perf_counter()
        self._scheduler.admit()
        previous, outputs = self._in_flight, self._start_grammars()
        logits = self._forward()
        if not any(request.needs_text for request in self._rows):
            self._in_flight = self._draw(logits)
            return outputs + self._read(previous)
        mx.async_eval(logits)  # the device goes on while the host reads
        outputs += self._read(previous)
        self._in_flight = self._draw(logits)
        return outputs

    @property
    def has_prompts(self) -> bool:
        """Whether there are prompts to process."""
        return self._scheduler.num_prefilling > 0

    def settle(self) -> list[Output]:
        """Wait for the tokens under way: prompts come next, and none has to wait for them."""
        if self._in_flight is not None and not self._in_flight.is_read:
            mx.eval(self._in_flight.sampled.tokens)
            self._clock.observe_step(time.perf_counter() - self._launched_at)
        return self._read(self._in_flight)

    def prefill(self) -> None:
        """Process prompts for as long as the running rows may be kept waiting."""
        num_left = self._clock.chunk_size(
            num_running=len(self._rows), num_prompts=self._scheduler.num_prefilling
        )
        while num_left > 0 and (request := self._scheduler.next_prefill()) is not None:
            if request.cache is None:
                self._begin_prefill(request)
            length = min(num_left, request.num_to_prefill)
            if request.scores is not None:
                length = min(length, SCORED_CHUNK)
            if length > 0:
                self._prefill_chunk(request, length)
            num_left -= max(length, 1)
            if request.num_to_prefill == 0:
                self._finish_prefill(request)

    def _begin_prefill(self, request: Request) -> None:
        """Start from what is known of the prompt's beginning."""
        if request.scores is None:  # scores need the logits of every position
            request.cache, request.num_cached = self._prefixes.find(request.prompt)
            request.num_prefilled = request.num_cached
        if request.cache is None:
            request.cache = make_row(self._model, self._kv_bits)

    def _finish_prefill(self, request: Request) -> None:
        """Let the request join, and keep what was computed for others."""
        self._scheduler.finish_prefill(request)
        self._joining.append(request)
        self._prefixes.add(request.prompt[: request.num_prefilled], request.cache)

    def _forward(self) -> mx.array | None:
        """The logits of every row's next token, [B, V]; None when no row is left."""
        tokens = self._update_rows()
        if tokens is None:
            return None
        logits = self._model(tokens[:, None], cache=self._cache.layers)[:, -1]
        self._cache.advance()
        return logits

    def _draw(self, logits: mx.array | None) -> Launch | None:
        """Launch the draw of every row's next token."""
        if logits is None:
            return None
        rows = self._rows
        if self._columns is None:
            sampling = [request.sampling for request in rows]
            self._columns = SamplingColumns.of(
                temperature=[s.temperature for s in sampling],
                top_k=[s.top_k for s in sampling],
                top_p=[s.top_p for s in sampling],
                min_p=[s.min_p for s in sampling],
                seeds=[request.seed for request in rows],
            )
            self._adjustments = adjustments_of(rows)
        elif any(request.changes_adjustments for request in rows):
            self._adjustments = adjustments_of(rows)
        sampled = self._sample(
            logits,
            self._columns,
            column([request.num_launched for request in rows], np.uint32, 0),
            self._adjustments,
            masks_of(rows, logits.shape[-1]),
            max(request.sampling.top_logprobs for request in rows),
        )
        mx.async_eval(*(array for array in sampled if array is not None))
        for request in rows:
            request.num_launched += 1
        return Launch(list(rows), sampled)

    def _start_grammars(self) -> list[Output]:
        """Give its grammar to each joining row, and end those whose grammar failed."""
        failed = []
        waiting = [r.compiling for r in self._joining if r.compiling]
        if waiting and not self._rows:
            wait(waiting, timeout=0.01)  # nothing else to do: no reason to spin
        for request in [r for r in self._joining if r.compiling and r.compiling.done()]:
            try:
                request.grammar = request.compiling.result()
            except GrammarError as error:
                self.abort(request)
                failed.append(Output(request, None, math.nan, str(error)))
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
            inputs = [self._in_flight.sampled.tokens]
        if leaving:
            places = [i for i, request in enumerate(self._rows) if request in leaving]
            self._keep_texts(places)
            kept = self._cache.leave(places)
            self._rows = [self._rows[i] for i in kept]
            self._columns = None
            inputs = [tokens[mx.array(kept)] for tokens in inputs]
            for request in leaving:
                self._scheduler.release(request)
        joining = [request for request in self._joining if request.compiling is None]
        if joining:
            self._cache.join([request.cache for request in joining])
            last = [request.prompt[-1] for request in joining]
            inputs.append(mx.array(last, mx.int32))
            for request in joining:
                request.cache = None
                self._joining.remove(request)
            self._rows += joining
            self._columns = None
        if not inputs:
            return None
        return inputs[0] if len(inputs) == 1 else mx.concatenate(inputs)

    def _keep_texts(self, places: list[int]) -> None:
        """Let later turns of these conversations find their answers."""
        for i in places:
            request = self._rows[i]
            if self._prefixes.is_enabled and not request.is_aborted:
                text = request.prompt + request.tokens
                length = min(len(text), self._cache.lengths[i])
                row = self._cache.extract(i, length)
                if row is not None:
                    self._prefixes.add(text[:length], row)

    def _read(self, launch: Launch | None) -> list[Output]:
        if launch is None or launch.is_read:
            return []
        launch.is_read = True
        tokens, logprobs, top_ids, top_logprobs = (
            None if array is None else array.tolist() for array in launch.sampled
        )
        outputs = []
        for i, request in enumerate(launch.rows):
            if request.is_done:
                continue
            token, logprob = tokens[i], logprobs[i]
            if math.isnan(logprob):
                reason = request.grammar and request.grammar.error
                outputs.append(_failure(request, reason or "the model's logits are not finite"))
            elif not request.accept(token):
                outputs.append(Output(request, None, logprob))
            elif request.grammar is not None and request.grammar.error is not None:
                outputs.append(_failure(request, request.grammar.error))
            else:
                count = request.sampling.top_logprobs
                top = (
                    dict(zip(top_ids[i][:count], top_logprobs[i][:count], strict=True))
                    if count
                    else None
                )
                outputs.append(Output(request, token, logprob, None, top))
        return outputs

    def _prefill_chunk(self, request: Request, length: int) -> None:
        started = time.perf_counter()
        start = request.num_prefilled
        chunk = mx.array(request.prompt[start : start + length], mx.int32)
        logits = self._model(chunk[None], cache=request.cache)[0]  # [length, V]
        if request.scores is not None:
            following = request.prompt[start + 1 : start + length + 1]
            num_top = request.sampling.top_logprobs
            score(request.scores, logits, following, num_top, self._sample)
        # Otherwise the logits are not evaluated: no projection to the vocabulary.
        mx.eval([layer.state for layer in request.cache])
        request.num_prefilled += length
        self._clock.observe_chunk(length, time.perf_counter() - started)


def _failure(request: Request, reason: str) -> Output:
    """The end of a row that cannot go on; the others do."""
    request.is_aborted = True
    return Output(request, None, math.nan, reason)
