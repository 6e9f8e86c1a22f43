"""The Metal kernels: whether the compiler of this machine takes them. A probe."""

import time

import mlx.core as mx

from mlxnode.doctor.findings import Finding, Section
from mlxnode.kernels import backend


def kernel_variants() -> Section:
    """Compile and run the kernels on inputs with a known result."""
    if not mx.metal.is_available():
        finding = Finding("kernels", "info", "no Metal device: MLX's operations are used")
        return Section("Kernels", [finding])
    started_at = time.perf_counter()
    try:
        backend.choose("metal")
    except backend.BackendError as error:
        return Section("Kernels", [Finding("kernels", "fail", "see below")], log=str(error))
    seconds = time.perf_counter() - started_at
    return Section(
        "Kernels", [Finding("kernels", "ok", f"compiled and run in {seconds:.1f} s")]
    )
