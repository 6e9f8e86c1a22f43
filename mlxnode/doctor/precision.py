"""Whether float32 products are computed in float32. A probe.

From the M5 on, Apple's GPUs have matrix units (MLX calls the path NAX) whose float32 products
round the factors to TF32: 10 bits of mantissa instead of 23. MLX_ENABLE_TF32=0 turns it off.
"""

import os

import mlx.core as mx
import numpy as np

from mlxnode.doctor.findings import Finding, Section

SIZE = 1024
# Relative errors of a product of random matrices: 2**-24 and 2**-11 are the roundings of one
# factor. Errors of sums are of their size, because the terms have random signs.
TF32_FROM = 2e-5


def float32_products() -> Section:
    """The error of float32 and half products against float64."""
    setting = os.environ.get("MLX_ENABLE_TF32", "not set")
    error = product_error(mx.float32)
    what = "TF32" if error > TF32_FROM else "float32"
    findings = [
        Finding("float32 products", "info", f"relative error {error:.1e}: computed as {what}"),
        Finding("float16 products", "info", f"relative error {product_error(mx.float16):.1e}"),
    ]
    return Section(f"Float32 products, MLX_ENABLE_TF32 {setting}", findings)


def product_error(dtype: mx.Dtype) -> float:
    """The error of a matrix product of that dtype, relative to the size of the result."""
    random = np.random.default_rng(0)
    a, b = (mx.array(random.normal(size=(SIZE, SIZE)), dtype) for _ in range(2))
    exact = as_float64(a) @ as_float64(b)
    return float(np.linalg.norm(as_float64(a @ b) - exact) / np.linalg.norm(exact))


def as_float64(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32), np.float64)
