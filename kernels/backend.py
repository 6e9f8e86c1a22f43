"""The choice between the Metal kernels and the operations that run on every device."""

import logging
from typing import Literal, NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import MIN_ELEMENTS
from mlxnode.kernels.pool import PoolFunction, PoolingColumns, pool_ops
from mlxnode.kernels.pool_metal import pool_metal
from mlxnode.kernels.sample import SampleFunction, SamplingColumns
from mlxnode.kernels.sample_metal import sample_metal
from mlxnode.kernels.sample_ops import sample_ops

log = logging.getLogger("mlxnode.kernels")

Backend = Literal["auto", "metal", "ops"]


class Kernels(NamedTuple):
    """One implementation of sampling and of pooling."""

    sample: SampleFunction
    pool: PoolFunction


OPS = Kernels(sample=sample_ops, pool=pool_ops)
METAL = Kernels(sample=sample_metal, pool=pool_metal)


class BackendError(RuntimeError):
    """The requested backend does not work on this machine."""


def choose(backend: Backend = "auto") -> Kernels:
    """The kernels of ``backend``; "auto" is "metal" where the kernels work, otherwise "ops".

    Raises:
        BackendError: "metal" is requested and does not work here.
    """
    if backend == "ops" or (backend == "auto" and not _has_metal()):
        return OPS
    if not _has_metal():
        raise BackendError("[engine] kernels: Metal is not available on this machine")
    try:
        _check()
    except (RuntimeError, ValueError) as error:
        if backend == "metal":
            raise BackendError(
                f"[engine] kernels: Metal's do not work here: {error}"
            ) from error
        log.warning("the Metal kernels do not work here, going on without: %s", error)
        return OPS
    return METAL


def _has_metal() -> bool:
    return mx.metal.is_available() and mx.default_device() == mx.gpu


def _check() -> None:
    """Compile and run each kernel once, on inputs with a known result.

    So a kernel that the machine's compiler or driver gets wrong is found before a request.

    Raises:
        RuntimeError: a result is wrong, or MLX cannot run the kernel.
    """
    logits = mx.array(np.eye(MIN_ELEMENTS, 4096, dtype=np.float32) * 20)
    # Greedy and sampled rows; the logits have so high a peak that both give the same token.
    temperatures = [0.0, 1.0] * (MIN_ELEMENTS // 2)
    columns = SamplingColumns.of(temperatures, [0] * 8, [0.9] * 8, [0.0] * 8, range(8))
    positions = np.zeros(MIN_ELEMENTS, np.uint32)
    tokens = sample_metal(logits, columns, positions).tokens.tolist()
    if tokens != list(range(MIN_ELEMENTS)):
        raise RuntimeError(f"sampling gave {tokens}")
    hidden = mx.broadcast_to(mx.array([3.0, 4.0]), (1, 8, 2))
    vector = pool_metal(hidden, PoolingColumns.of([8], ["mean"], [2]), normalize=True)
    if not mx.allclose(vector, mx.array([[0.6, 0.8]])).item():
        raise RuntimeError(f"pooling gave {vector.tolist()}")
