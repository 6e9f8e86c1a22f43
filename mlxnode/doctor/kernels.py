"""Each variant of the Metal kernels: whether this machine compiles it, and computes it right.

A probe.
"""

import mlx.core as mx

from mlxnode.doctor.findings import Finding, Section
from mlxnode.kernels.variants import VariantResult, check_variants

_DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def kernel_variants() -> Section:
    """Compile and run every variant on inputs with a known result."""
    if not mx.metal.is_available():
        finding = Finding("kernels", "info", "no Metal device: MLX's operations are used")
        return Section("Kernels", [finding])
    return section_of(check_variants(sampling=_DTYPES, pooling=_DTYPES))


def section_of(results: list[VariantResult]) -> Section:
    """A row for each variant, and what the compiler says about those that do not work."""
    failed = [result for result in results if not result.works]
    text = f"{len(results) - len(failed)} of {len(results)} variants work"
    advice = "a node uses MLX's operations instead; please report it" if failed else ""
    found = Finding("kernels", "fail" if failed else "ok", text, advice)
    rows = [[r.name, "works" if r.works else "fails", f"{r.seconds:.2f} s"] for r in results]
    log = "\n\n".join(f"{result.name}\n{result.error}" for result in failed)
    return Section("Kernels", [found], [["variant", "", "time to compile and run"], *rows], log)
