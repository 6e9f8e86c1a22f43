"""Where a decode step spends its time, without HTTP.

One batch decodes with parameters of its own for every row; in turn with it, the model runs on
another cache of the same lengths without drawing anything, and draws are made without it.

    python benchmarks/engine.py --batches 1 16 --json engine.json
"""

import argparse
import json
import multiprocessing
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from mlxnode.engine.cpu.blas import preload_blas

preload_blas()  # has to come before the first import of mlx

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx import nn  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402
from models import export  # noqa: E402

from mlxnode.config.tables import EngineConfig  # noqa: E402
from mlxnode.engine.cpu import functions, malloc  # noqa: E402
from mlxnode.engine.decode.grammar import GrammarCompiler  # noqa: E402
from mlxnode.engine.decode.request import Request  # noqa: E402
from mlxnode.engine.decode.runner import TextRunner  # noqa: E402
from mlxnode.engine.decode.sampling import columns_of  # noqa: E402
from mlxnode.engine.kvcache.batch import BatchCache  # noqa: E402
from mlxnode.engine.kvcache.budget import MemoryBudget  # noqa: E402
from mlxnode.engine.kvcache.prompt_cache import (  # noqa: E402
    PromptCache,
    evaluate,
    new_prompt_cache,
)
from mlxnode.engine.work import RequestKey  # noqa: E402
from mlxnode.kernels import backend  # noqa: E402
from mlxnode.kernels.columns import column  # noqa: E402
from mlxnode.messages import Generate, Sampling, Token, Tokens, Update  # noqa: E402
from mlxnode.process.pipe import Pipe  # noqa: E402

LENGTHS = (40, 200, 800)
STEPS = 15


@dataclass(frozen=True)
class Profile:
    """Milliseconds, medians; ``ratio`` is a step over the bare forward pass."""

    batch: int
    step: float
    forward: float
    ratio: float
    sampling: float  # one draw for every row, on its own
    python: float  # CPU time of the engine's thread in a step, most of it beside the device's
    pipe: float  # from the engine's thread to the worker's, with a token for every row
    join: float  # of one row of 200 tokens into the batch
    grow: float  # the same where the arrays have to grow, which every fourth row needs
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
    runner = TextRunner(
        model, EngineConfig(), MemoryBudget(10**11), no_grammars, backend.choose("auto")
    )
    for i in range(batch):
        runner.add(RequestKey(0, i), generate(i))
    while runner.num_running < batch:
        decode(runner)
    return runner


def no_grammars(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
    raise NotImplementedError("the requests of this benchmark have no grammar")


def filled_cache(model: nn.Module, lengths: list[int]) -> BatchCache:
    cache = BatchCache()
    rows = []
    for length in lengths:
        rows.append(prefilled(model, length))
    cache.join(rows)
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

    def draw() -> None:
        mx.eval(sample(logits, columns, positions, None, None, None).tokens)

    steps, pythons, forwards, draws = [], [], [], []
    for _ in range(STEPS):  # in turn, so that whatever else the machine does hits all
        busy = time.thread_time()
        steps.append(timed(lambda: decode(runner), 1))
        pythons.append(1000 * (time.thread_time() - busy))
        forwards.append(timed(forward, 1))
        draws.append(timed(draw, 1))
    row = prefilled(model, 200)

    def finished(function: Callable[[], object]) -> Callable[[], None]:
        return lambda: (function(), mx.eval([layer.state for layer in cache.layers]))

    joins = [timed(finished(lambda: cache.join([row])), 1) for _ in range(8)]
    step, bare = statistics.median(steps), statistics.median(forwards)
    return Profile(
        batch,
        step,
        bare,
        step / bare,
        statistics.median(draws),
        statistics.median(pythons),
        pipe_time(batch),
        join=min(joins),
        grow=max(joins),
        leave=timed(finished(lambda: cache.leave([0])), 1),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    parser.add_argument("--json", type=Path, help="write the profiles there as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, _ = load_model(export(Path(scratch) / "model", args.layers or None))
        functions.install()
        malloc.keep_arrays()
        profiles = [profile(model, batch) for batch in args.batches]
    names = [field.name for field in fields(Profile)]
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for p in profiles:
        print(f"| {p.batch} | {' | '.join(f'{value:.2f}' for value in astuple(p)[1:])} |")
    if args.json:
        args.json.write_text(json.dumps([asdict(p) for p in profiles], indent=2))


if __name__ == "__main__":
    main()
