"""The measurements of the decode step. Imports mlx."""

import multiprocessing
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx_lm.utils import load_model
from models import export

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.decode.sampling import columns_of
from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    evaluate,
    new_prompt_cache,
)
from mlxnode.engine.work import RequestKey
from mlxnode.kernels import backend
from mlxnode.kernels.columns import column
from mlxnode.messages.data import Generate, Sampling, Token, Tokens, Update
from mlxnode.process.pipe import Pipe

LENGTHS = (40, 200, 800)
STEPS = 15


@dataclass(frozen=True)
class Profile:
    """Milliseconds, medians; ``ratio`` is a step over the bare forward pass."""

    batch: int
    step: float
    forward: float
    ratio: float
    sampling: float  # of one token for every row, on its own
    python: float  # CPU time of the engine's thread in a step, mostly beside the device's work
    pipe: float  # from the engine's thread to the worker's, with a token for every row
    join: float  # of one row of 200 tokens into the batch
    grow: float  # the same if the arrays have to grow, for every fourth row
    leave: float  # of one row out of it


def timed(function: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def decode(runner: TextRunner) -> None:
    for _ in runner.step():
        pass


def generate(i: int) -> Generate:
    """A request with a length and parameters of its own."""
    prompt = np.random.default_rng(i).integers(20, 40_000, LENGTHS[i % 3]).tolist()
    sampling = Sampling(temperature=0.7 + 0.01 * i, top_p=0.9)
    return Generate(
        uid=i, model="bench", prompt=prompt, max_tokens=2000, stop_ids=[], sampling=sampling
    )


def filled_runner(model: nn.Module, batch: int) -> TextRunner:
    """A runner whose batch is complete: prompts of mixed lengths, parameters of their own."""
    budget, kernels = MemoryBudget(10**11), backend.choose("auto")
    runner = TextRunner(TextParts(model, EngineConfig(), budget, no_grammars, kernels))
    for i in range(batch):
        runner.add(RequestKey(0, i), generate(i))
    while runner.num_running < batch:
        decode(runner)
    return runner


def no_grammars(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
    raise ValueError("the requests of this benchmark have no grammar")


def filled_cache(model: nn.Module, lengths: list[int]) -> BatchCache:
    cache = BatchCache()
    cache.join([prefilled(model, length) for length in lengths])
    return cache


def prefilled(model: nn.Module, length: int) -> PromptCache:
    cache = new_prompt_cache(model)
    model(mx.ones((1, length), mx.int32), cache=cache)
    evaluate(cache)
    return cache


def profile(model: nn.Module, batch: int) -> Profile:
    runner = filled_runner(model, batch)
    cache = filled_cache(model, [len(generate(i).prompt) for i in range(batch)])
    tokens = mx.ones((batch, 1), mx.int32)
    sample = backend.choose("auto").sample
    rows = [Request.of(RequestKey(0, i), generate(i), random_seed=i) for i in range(batch)]
    columns, positions = columns_of(rows), column([0] * batch, np.uint32, 0)
    logits = model(tokens, cache=cache.layers)[:, -1]
    cache.advance([1] * batch)
    mx.eval(logits)

    def forward() -> None:
        logits = model(tokens, cache=cache.layers)
        cache.advance([1] * batch)
        mx.eval(logits)

    def sample_all() -> None:
        mx.eval(sample(logits, columns, positions, needs_logprobs=False).tokens)

    steps, pythons, forwards, samples = [], [], [], []
    for _ in range(STEPS):  # in turn, so that other work of the machine affects all
        busy = time.thread_time()
        steps.append(timed(lambda: decode(runner), 1))
        pythons.append(1000 * (time.thread_time() - busy))
        forwards.append(timed(forward, 1))
        samples.append(timed(sample_all, 1))
    row = prefilled(model, 200)

    def join() -> None:
        cache.join([row])
        mx.eval([layer.state for layer in cache.layers])

    def leave() -> None:
        cache.leave([0])
        mx.eval([layer.state for layer in cache.layers])

    joins = [timed(join, 1) for _ in range(8)]
    step, bare = statistics.median(steps), statistics.median(forwards)
    return Profile(
        batch,
        step,
        bare,
        step / bare,
        statistics.median(samples),
        statistics.median(pythons),
        pipe_time(batch),
        join=min(joins),
        grow=max(joins),
        leave=timed(leave, 1),
    )


def pipe_time(batch: int) -> float:
    """Milliseconds of a step's message from one thread to another, through a pipe."""
    arrived: queue.SimpleQueue[Tokens] = queue.SimpleQueue()
    ends = [
        Pipe(end, Tokens, arrived.put, lambda: None).start() for end in multiprocessing.Pipe()
    ]
    message = Tokens([Update(uid=uid, tokens=[Token(1000, 0.0)]) for uid in range(batch)])
    try:
        return timed(lambda: (ends[0].send(message), arrived.get(timeout=10)), 200)
    finally:
        for end in ends:
            end.close()


def profile_batches(batches: Sequence[int], layers: int | None) -> list[Profile]:
    """Profiles of the demo chat model, or of its first ``layers``, for each batch size."""
    with tempfile.TemporaryDirectory() as scratch:
        model, _ = load_model(export(Path(scratch) / "model", layers))
        cpu.install(model)
        return [profile(model, batch) for batch in batches]
