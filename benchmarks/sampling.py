"""Sampling: the Metal kernel, its twin in operations and mlx-lm's samplers, side by side.

Every row has parameters of its own, so mlx-lm's samplers run row by row, as in its server. The
three take turns, round after round; only ratios within one run mean anything. Passes are bytes
moved in multiples of the logits' size: of the operations, as their graph says (inputs and
outputs of every operation that is not a view); of the kernel, as the emulator counts them.

    python benchmarks/sampling.py --batches 1 4 16 --json kernels.json --plot kernels.svg
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mlxnode.engine.cpu.blas import preload_blas

preload_blas()  # has to come before the first import of mlx

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx_lm.sample_utils import make_sampler  # noqa: E402

from mlxnode.kernels import backend, sample_metal, sample_ops  # noqa: E402
from mlxnode.kernels.columns import column  # noqa: E402
from mlxnode.kernels.sample import Sampled, SamplingColumns  # noqa: E402

VIEWS = {"Broadcast", "ExpandDims", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "View"}
ROWS = [
    {"temperature": 0.7, "top_p": 0.95},
    {"temperature": 1.0, "top_k": 40, "top_p": 0.9},
    {"temperature": 0.8, "min_p": 0.05},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.8},
]


@dataclass(frozen=True)
class Result:
    """One implementation at one shape. Milliseconds a call; bytes moved by one call."""

    implementation: str
    batch: int
    vocabulary: int
    milliseconds: float | None  # None for a kernel that this machine cannot run
    bytes: int
    passes: float


class Case:
    """Logits as language models give them, and each row's parameters."""

    def __init__(self, batch: int, vocabulary: int):
        random = np.random.default_rng(vocabulary)
        logits = random.normal(0, 2, (batch, vocabulary))
        for row in logits:
            row[random.choice(vocabulary, 40, replace=False)] += random.normal(10, 3, 40)
        self.logits = mx.array(logits.astype(np.float32))
        mx.eval(self.logits)
        off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        rows = [off | ROWS[i % len(ROWS)] for i in range(batch)]
        self.columns = SamplingColumns.of(
            **{name: [row[name] for row in rows] for name in off}, seeds=range(batch)
        )
        self.positions = column(range(batch), np.uint32, 0)
        self.samplers = [
            make_sampler(
                temp=row["temperature"],
                top_p=row["top_p"] if row["top_p"] < 1 else 0.0,
                top_k=row["top_k"],
                min_p=row["min_p"],
            )
            for row in rows
        ]

    def by_mlx_lm(self, logits: mx.array) -> list[mx.array]:
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return [sampler(logprobs[i : i + 1]) for i, sampler in enumerate(self.samplers)]

    def by_operations(self, logits: mx.array) -> list[mx.array]:
        return self._both(sample_ops.sample_ops(logits, self.columns, self.positions))

    def by_kernel(self, logits: mx.array) -> list[mx.array]:
        return self._both(sample_metal.sample_metal(logits, self.columns, self.positions))

    @staticmethod
    def _both(sampled: Sampled) -> list[mx.array]:
        return [sampled.tokens, sampled.logprobs]


def seconds(function: Callable, logits: mx.array) -> float:
    started = time.perf_counter()
    mx.eval(function(logits))
    return time.perf_counter() - started


def bytes_of_graph(function: Callable, logits: mx.array) -> int:
    """What the operations of a graph read and write, views left out."""
    records: list[dict] = []
    mx.export_function(records.append, function, logits)
    broadcast: set = set()
    total = 0
    for record in records:
        if record["type"] != "primitive":
            continue
        if record["name"] in VIEWS:
            if record["name"] == "Broadcast":
                broadcast.update(key for key, *_ in record["outputs"])
            continue
        for key, shape, dtype in [*record["inputs"], *record["outputs"]]:
            if key not in broadcast:
                total += int(np.prod(shape)) * dtype.size
    return total


def first_round(shifted, weights, columns, draws) -> mx.array:
    """The truncated draw without a look at whether the candidates are enough: here they are."""
    B, _ = shifted.shape
    parameters = (columns.scale, columns.top_k, columns.top_p, columns.min_p)
    return sample_ops._draw_among(
        sample_ops.CANDIDATES, shifted, weights, *(values[:B] for values in parameters), draws
    )[0]


def bytes_of_operations(case: Case) -> int:
    looping, sample_ops._draw_truncated = sample_ops._draw_truncated, first_round
    try:
        return bytes_of_graph(case.by_operations, case.logits)
    finally:
        sample_ops._draw_truncated = looping


def bytes_of_kernel(case: Case) -> int:
    """Counted by the emulator of the tests, wherever this runs."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from metal.emulator import EmulatedKernel

    real, mx.fast.metal_kernel = mx.fast.metal_kernel, EmulatedKernel
    sample_metal.kernel.cache_clear()
    try:
        case.by_kernel(case.logits)
        (run,) = sample_metal.kernel().runs
        return sum(traffic.read + traffic.written for traffic in run.traffic.values())
    finally:
        mx.fast.metal_kernel = real
        sample_metal.kernel.cache_clear()


def measure(batch: int, vocabulary: int, rounds: int) -> list[Result]:
    """All implementations at one shape, in turns."""
    case = Case(batch, vocabulary)
    functions = {"mlx-lm": case.by_mlx_lm, "operations": case.by_operations}
    if backend.choose() is backend.METAL:
        functions["kernel"] = case.by_kernel
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):  # the first one warms up
        for name, function in functions.items():
            times[name].append(seconds(function, case.logits))
    moved = {
        "mlx-lm": bytes_of_graph(case.by_mlx_lm, case.logits),
        "operations": bytes_of_operations(case),
        "kernel": bytes_of_kernel(case),
    }
    return [
        Result(
            name,
            batch,
            vocabulary,
            1000 * statistics.median(times[name][1:]) if name in times else None,
            count,
            count / case.logits.nbytes,
        )
        for name, count in moved.items()
    ]


def table(results: list[Result]) -> str:
    lines = [
        "| B | V | implementation | ms | of mlx-lm's time | MB moved | passes |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        peer = next(
            other.milliseconds
            for other in results
            if (other.implementation, other.batch, other.vocabulary)
            == ("mlx-lm", result.batch, result.vocabulary)
        )
        time_cell = share = "-"
        if result.milliseconds is not None:
            time_cell, share = (
                f"{result.milliseconds:.2f}",
                f"{result.milliseconds / peer:.2f}",
            )
        lines.append(
            f"| {result.batch} | {result.vocabulary} | {result.implementation} | {time_cell} "
            f"| {share} | {result.bytes / 1e6:.1f} | {result.passes:.1f} |"
        )
    return "\n".join(lines)


def plot(results: list[Result], path: Path) -> None:
    """Time over batch size, one panel for each vocabulary."""
    from matplotlib import pyplot

    vocabularies = sorted({result.vocabulary for result in results})
    figure, panels = pyplot.subplots(
        1, len(vocabularies), figsize=(4 * len(vocabularies), 3.5), squeeze=False, sharey=True
    )
    for panel, vocabulary in zip(panels[0], vocabularies, strict=True):
        for name in ("mlx-lm", "operations", "kernel"):
            points = [
                (result.batch, result.milliseconds)
                for result in results
                if (result.implementation, result.vocabulary) == (name, vocabulary)
                and result.milliseconds is not None
            ]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(title=f"V = {vocabulary}", xlabel="rows", xscale="log", yscale="log")
    panels[0][0].set_ylabel("ms")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[32_000, 49_152, 151_936]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--plot", type=Path, help="draw them here (.svg, .png)")
    options = parser.parse_args()
    results = [
        result
        for vocabulary in options.vocabularies
        for batch in options.batches
        for result in measure(batch, vocabulary, options.rounds)
    ]
    print(f"mlx {mx.__version__}, {platform.machine()}, {mx.default_device()}")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
