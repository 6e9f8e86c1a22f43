"""Continuous batching for one model: requests join and leave the batch at any step.

A step is ``decode``, then ``prefill``. Decoding launches the next token of every row before
it reads the previous one, so Python's work hides behind the device's. A row that ends is
noticed one step late; its surplus token is dropped. Prefilling processes a piece of prompt.
"""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx_lm.models.cache import make_prompt_cache

from mlxnode.config import EngineConfig
from mlxnode.engine.cache import BatchCache, measure_row
from mlxnode.engine.request import Request
from mlxnode.engine.scheduler import MemoryBudget, PrefillClock, Refusal, Scheduler
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Sampled, SamplingColumns


class Output(NamedTuple):
    """What one step brought for one request; ``token`` is None when only an end came."""

    request: Request
    token: int | None
    logprob: float
    error: str | None = None


@dataclass
class Launch:
    """A decode step on its way: the rows it was made for, and the arrays to come."""

    rows: list[Request]
    sampled: Sampled


class Runner:
    """The running batch of one model, and the requests that wait to join it."""

    def __init__(
        self,
        model: nn.Module,
        config: EngineConfig,
        budget: MemoryBudget,
        kernels: Kernels = OPS,
    ):
        self._model = model
        self._sample = kernels.sample
        self._clock = PrefillClock(config.prefill_stall_ms / 1000)
        self._scheduler = Scheduler(
            config.max_batch_size, config.max_queue_size, budget, measure_row(model)
        )
        self._reset()

    def _reset(self) -> None:
        self._rows: list[Request] = []  # in the order of the cache's rows
        self._joining: list[Request] = []  # prefilled, in the batch from the next launch on
        self._cache = BatchCache()
        self._columns: SamplingColumns | None = None
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
        """Launch the next token of every row, then read the previous ones."""
        self._launched_at = time.perf_counter()
        self._scheduler.admit()
        previous, self._in_flight = self._in_flight, self._launch()
        return [] if previous is None else self._read(previous)

    def prefill(self) -> None:
        """Process prompts for as long as the running rows may be kept waiting."""
        if not self._scheduler.num_prefilling:
            return
        if self._in_flight is not None:
            mx.eval(self._in_flight.sampled.tokens)  # what follows is timed without it
            self._clock.observe_step(time.perf_counter() - self._launched_at)
        num_left = self._clock.chunk_size(
            num_running=len(self._rows), num_prompts=self._scheduler.num_prefilling
        )
        while num_left > 0 and (request := self._scheduler.next_prefill()) is not None:
            if request.cache is None:
                request.cache = make_prompt_cache(self._model)
            length = min(num_left, request.num_to_prefill)
            if length > 0:
                self._prefill_chunk(request, length)
            num_left -= max(length, 1)
            if request.num_to_prefill == 0:
                self._scheduler.finish_prefill(request)
                self._joining.append(request)

    def _launch(self) -> Launch | None:
        tokens = self._update_rows()
        if tokens is None:
            return None
        if self._columns is None:
            sampling = [request.sampling for request in self._rows]
            self._columns = SamplingColumns.of(
                temperature=[s.temperature for s in sampling],
                top_k=[s.top_k for s in sampling],
                top_p=[s.top_p for s in sampling],
                min_p=[s.min_p for s in sampling],
                seeds=[request.seed for request in self._rows],
            )
        positions = column([request.num_launched for request in self._rows], np.uint32, 0)
        logits = self._model(tokens[:, None], cache=self._cache.layers)[:, -1]  # [B, V]
        sampled = self._sample(logits, self._columns, positions)
        mx.async_eval(sampled.tokens, sampled.logprobs)
        for request in self._rows:
            request.num_launched += 1
        return Launch(list(self._rows), sampled)

    def _update_rows(self) -> mx.array | None:
        """Let rows leave and join; returns the input token of each row, [B], if any is left."""
        leaving = [r for r in self._rows if r.is_done or r.is_fully_launched]
        inputs = []
        if len(leaving) < len(self._rows):
            inputs = [self._in_flight.sampled.tokens]
        if leaving:
            kept = [i for i, request in enumerate(self._rows) if request not in leaving]
            self._cache.keep(kept)
            self._rows = [self._rows[i] for i in kept]
            self._columns = None
            inputs = [tokens[mx.array(kept)] for tokens in inputs]
            for request in leaving:
                self._scheduler.release(request)
        if self._joining:
            self._cache.join([request.cache for request in self._joining])
            last = [request.prompt[-1] for request in self._joining]
            inputs.append(mx.array(last, mx.int32))
            for request in self._joining:
                request.cache = None
            self._rows += self._joining
            self._joining = []
            self._columns = None
        if not inputs:
            return None
        return inputs[0] if len(inputs) == 1 else mx.concatenate(inputs)

    def _read(self, launch: Launch) -> list[Output]:
        outputs = []
        tokens, logprobs = launch.sampled.tokens.tolist(), launch.sampled.logprobs.tolist()
        for request, token, logprob in zip(launch.rows, tokens, logprobs, strict=True):
            if request.is_done:
                continue
            if math.isnan(logprob):
                request.is_aborted = True
                outputs.append(
                    Output(request, None, logprob, "the model's logits are not finite")
                )
            elif request.accept(token):
                outputs.append(Output(request, token, logprob))
            else:
                outputs.append(Output(request, None, logprob))
        return outputs

    def _prefill_chunk(self, request: Request, length: int) -> None:
        started = time.perf_counter()
        start = request.num_prefilled
        chunk = mx.array(request.prompt[start : start + length], mx.int32)
        # The logits are not evaluated: no projection to the vocabulary for prompt tokens.
        self._model(chunk[None], cache=request.cache)
        mx.eval([layer.state for layer in request.cache])
        request.num_prefilled += length
        self._clock.observe_chunk(length, time.perf_counter() - started)
