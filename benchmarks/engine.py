"""A decode step without HTTP, beside the bare forward pass of a batch of the same lengths.

One batch decodes with parameters of its own for every row; in turn with it, the model runs on
another cache without drawing anything.

    python benchmarks/engine.py --batches 1 16 --json engine.json
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mlxnode.engine.blas import preload_blas

preload_blas()  # has to come before the first import of mlx

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx import nn  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402
from models import export  # noqa: E402

from mlxnode.config import EngineConfig  # noqa: E402
from mlxnode.engine import cpu, heap  # noqa: E402
from mlxnode.engine.cache import BatchCache, make_row  # noqa: E402
from mlxnode.engine.request import Request  # noqa: E402
from mlxnode.engine.runner import Runner  # noqa: E402
from mlxnode.engine.scheduler import MemoryBudget  # noqa: E402
from mlxnode.kernels import backend  # noqa: E402
from mlxnode.messages import Generate, Sampling  # noqa: E402

LENGTHS = (40, 200, 800)
STEPS = 15


@dataclass(frozen=True)
class Profile:
    """Milliseconds, medians; ``ratio`` is a step over the bare forward pass."""

    batch: int
    step: float
    forward: float
    ratio: float
    join: float  # of one row of 200 tokens into the batch
    leave: float  # of one row out of it


def timed(function: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def filled_runner(model: nn.Module, batch: int) -> Runner:
    """A runner whose batch is complete: prompts of mixed lengths, parameters of their own."""
    runner = Runner(model, EngineConfig(), MemoryBudget(10**11), None, backend.choose("auto"))
    for i in range(batch):
        prompt = np.random.default_rng(i).integers(20, 40_000, LENGTHS[i % 3]).tolist()
        sampling = Sampling(temperature=0.7 + 0.01 * i, top_p=0.9)
        message = Generate(i, "bench", prompt, 2000, [], sampling)
        runner.add(Request.of(0, message, random_seed=i))
    while runner.num_running < batch:
        runner.settle()
        runner.prefill()
        runner.begin()
        runner.decode()
    return runner


def filled_cache(model: nn.Module, lengths: list[int]) -> BatchCache:
    cache = BatchCache()
    rows = []
    for length in lengths:
        row = make_row(model)
        model(mx.ones((1, length), mx.int32), cache=row)
        mx.eval([layer.state for layer in row])
        rows.append(row)
    cache.join(rows)
    return cache


def profile(model: nn.Module, batch: int) -> Profile:
    runner = filled_runner(model, batch)
    cache = filled_cache(model, runner.lengths)
    tokens = mx.ones((batch, 1), mx.int32)

    def forward() -> None:
        logits = model(tokens, cache=cache.layers)
        cache.advance([1] * batch)
        mx.eval(logits)

    steps, forwards = [], []
    for _ in range(STEPS):  # in turn, so that whatever else the machine does hits both
        steps.append(timed(runner.decode, 1))
        forwards.append(timed(forward, 1))
    row = make_row(model)
    model(mx.ones((1, 200), mx.int32), cache=row)
    mx.eval([layer.state for layer in row])

    def finished(function: Callable[[], object]) -> Callable[[], None]:
        return lambda: (function(), mx.eval([layer._arrays for layer in cache.layers]))

    join = timed(finished(lambda: cache.join([row])), 1)
    leave = timed(finished(lambda: cache.leave([0])), 1)
    step, bare = statistics.median(steps), statistics.median(forwards)
    return Profile(batch, step, bare, step / bare, join, leave)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    parser.add_argument("--json", type=Path, help="write the profiles there as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, _ = load_model(export(Path(scratch) / "model", args.layers or None))
        cpu.install()
        heap.keep_arrays()
        profiles = [profile(model, batch) for batch in args.batches]
    print("| batch | step ms | forward pass ms | ratio | join ms | leave ms |")
    print("|---|---|---|---|---|---|")
    for p in profiles:
        print(
            f"| {p.batch} | {p.step:.1f} | {p.forward:.1f} | {p.ratio:.2f} | {p.join:.2f} "
            f"| {p.leave:.2f} |"
        )
    if args.json:
        args.json.write_text(json.dumps([asdict(p) for p in profiles], indent=2))


if __name__ == "__main__":
    main()
