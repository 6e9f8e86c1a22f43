"""Which implementation of the kernels runs: Metal's, or the operations that run anywhere."""

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import MIN_ELEMENTS
from mlxnode.kernels.pool import PoolingColumns, pool_ops
from mlxnode.kernels.pool_metal import pool_metal
from mlxnode.kernels.sample import Sampled, SamplingColumns
from mlxnode.kernels.sample_metal import sample_metal
from mlxnode.kernels.sample_ops import sample_ops

log = logging.getLogger("mlxnode.kernels")

Backend = Literal["auto", "metal", "ops"]


class Kernels(NamedTuple):
    """``sample`` and ``pool``, one implementation of each."""

    sample: Callable[..., Sampled]
    pool: Callable[..., mx.array]


OPS = Kernels(sample_ops, pool_ops)
METAL = Kernels(sample_metal, pool_metal)


class BackendError(RuntimeError):
    """The backend that was asked for does not work on this machine."""


def choose(backend: Backend = "auto") -> Kernels:
    """The kernels of ``backend``; "auto" is "metal" where it works, otherwise "ops".

    Raises:
        BackendError: "metal" was asked for and does not work here.
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
    """Compile and run each kernel once, on a case where the right answer is plain.

    A kernel that the machine's compiler or a driver gets wrong shows before requests do.

    Raises:
        RuntimeError: an answer is wrong, or MLX could not run the kernel.
    """
    logits = mx.array(np.eye(MIN_ELEMENTS, 4096, dtype=np.float32) * 20)
    rows = [0.0, 1.0] * (MIN_ELEMENTS // 2)  # greedy, and so peaked that it makes no odds
    columns = SamplingColumns.of(rows, [0] * 8, [0.9] * 8, [0.0] * 8, range(8))
    positions = np.zeros(MIN_ELEMENTS, np.uint32)
    tokens = sample_metal(logits, columns, positions).tokens.tolist()
    if tokens != list(range(MIN_ELEMENTS)):
        raise RuntimeError(f"sampling gave {tokens}")
    hidden = mx.broadcast_to(mx.array([3.0, 4.0]), (1, 8, 2))
    vector = pool_metal(hidden, PoolingColumns.of([8], ["mean"], [2]), normalize=True)
    if not mx.allclose(vector, mx.array([[0.6, 0.8]])).item():
        raise RuntimeError(f"pooling gave {vector.tolist()}")
