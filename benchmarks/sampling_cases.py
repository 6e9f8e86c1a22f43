"""The measurements of the sampling benchmark. Imports mlx."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler
from sampling_report import Result

from mlxnode.kernels import backend, sample_metal, sample_ops
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Sampled, SamplingColumns

VIEWS = {"Broadcast", "ExpandDims", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "View"}
ROWS = [
    {"temperature": 0.7, "top_p": 0.95},
    {"temperature": 1.0, "top_k": 40, "top_p": 0.9},
    {"temperature": 0.8, "min_p": 0.05},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.8},
]


class Case:
    """Logits like a language model's, and the parameters of each row."""

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
    """The bytes that the operations of a graph read and write, without views."""
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


def sample_once(
    shifted: mx.array, weights: mx.array, columns: SamplingColumns, numbers: mx.array
) -> mx.array:
    """``_sample_truncated`` without the check of the candidates: here they are enough."""
    B, _ = shifted.shape
    tokens, _ = sample_ops._sample_among(
        sample_ops.CANDIDATES,
        shifted,
        weights,
        columns.scale[:B],
        columns.top_k[:B],
        columns.top_p[:B],
        columns.min_p[:B],
        numbers,
    )
    return tokens


def bytes_of_operations(case: Case) -> int:
    original, sample_ops._sample_truncated = sample_ops._sample_truncated, sample_once
    try:
        return bytes_of_graph(case.by_operations, case.logits)
    finally:
        sample_ops._sample_truncated = original


def bytes_of_kernel(case: Case) -> int:
    """The bytes that the emulator of the tests counts; it runs on every machine."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from metal.emulator import EmulatedKernel

    real, mx.fast.metal_kernel = mx.fast.metal_kernel, EmulatedKernel
    sample_metal.kernel.cache_clear()
    try:
        case.by_kernel(case.logits)
        kernel = sample_metal.kernel()
        if not isinstance(kernel, EmulatedKernel):
            raise RuntimeError("the kernel does not run in the emulator")
        (run,) = kernel.runs
        return sum(traffic.read + traffic.written for traffic in run.traffic.values())
    finally:
        mx.fast.metal_kernel = real
        sample_metal.kernel.cache_clear()


def measure(batch: int, vocabulary: int, rounds: int) -> list[Result]:
    """All implementations at one shape, in turns."""
    case = Case(batch, vocabulary)
    functions = {"mlx-lm": case.by_mlx_lm, "operations": case.by_operations}
    if backend.choose() is not backend.OPS:
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
