"""The bandwidth of the memory, and the share of it that decode steps use. A probe.

A decode step reads all weights once and the keys and values of every row, so its least time is
those bytes over the bandwidth of a copy.
"""

import time

import mlx.core as mx

from mlxnode.doctor.decoding import (
    ON_CPU,
    ON_GPU,
    is_on_gpu,
    measure_decoding,
    random_model,
    weight_bytes,
)
from mlxnode.doctor.findings import Finding, Section, gigabytes

BATCHES = (1, 16)
_COPIES = 10


def bandwidth() -> Section:
    """The copy bandwidth, and its share that decode steps of 1 and 16 rows use."""
    shape = ON_GPU if is_on_gpu() else ON_CPU
    rate = copy_bandwidth((512 if is_on_gpu() else 64) << 20)
    model = random_model(shape)
    weights = weight_bytes(model)
    table = [["rows", "step", "tokens/s", "bytes to read", "share of the bandwidth"]]
    for rows in BATCHES:
        decoding = measure_decoding(model, rows, shape.vocabulary, shape.prompt)
        num_bytes = weights + rows * shape.prompt * shape.kv_bytes_of_a_token
        step = decoding.step_seconds
        table.append(
            [
                str(rows),
                f"{1000 * step:.2f} ms",
                f"{rows / step:.0f}",
                gigabytes(num_bytes),
                f"{num_bytes / step / rate:.0%}",
            ]
        )
    found = [
        Finding("copy", "info", f"{rate / 1e9:.0f} GB/s, read and written"),
        Finding(
            "model", "info", f"random llama, {gigabytes(weights)}, {shape.prompt} tokens a row"
        ),
    ]
    return Section("Memory bandwidth", found, table)


def copy_bandwidth(size: int) -> float:
    """Bytes per second that an addition to an array of ``size`` bytes reads and writes."""
    source = mx.zeros(size // 4, mx.float32)
    mx.eval(source, source + 1)
    best = float("inf")
    for _ in range(_COPIES):
        started_at = time.perf_counter()
        mx.eval(source + 1)
        best = min(best, time.perf_counter() - started_at)
    return 2 * size / best
