"""The choice between the Metal kernels and the operations that run on every device."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

import mlx.core as mx

from mlxnode.kernels.pool import PoolFunction, pool_ops
from mlxnode.kernels.pool_metal import pool_metal
from mlxnode.kernels.sample import SampleFunction
from mlxnode.kernels.sample_metal import sample_metal
from mlxnode.kernels.sample_ops import sample_ops
from mlxnode.kernels.variants import BackendError, CheckedKernels

Backend = Literal["auto", "metal", "ops"]


class WarmFunction(Protocol):
    """Compiles what the dtypes of logits and of hidden states need."""

    def __call__(
        self, *, sampling: Iterable[mx.Dtype] = (), pooling: Iterable[mx.Dtype] = ()
    ) -> None: ...


class Kernels(NamedTuple):
    """One implementation of sampling and of pooling."""

    sample: SampleFunction
    pool: PoolFunction
    warm: WarmFunction | None = None  # to call when a model is loaded


OPS = Kernels(sample=sample_ops, pool=pool_ops)
METAL = Kernels(sample=sample_metal, pool=pool_metal)  # not checked: for tests and benchmarks


def choose(backend: Backend = "auto") -> Kernels:
    """The kernels of ``backend``; "auto" is "metal" where a device is, otherwise "ops".

    With "auto", operations replace the variants that do not work here; "metal" is strict.

    Raises:
        BackendError: "metal" is requested, and there is no device.
    """
    if backend == "ops" or (backend == "auto" and not _has_metal()):
        return OPS
    if not _has_metal():
        raise BackendError("[engine] kernels: Metal is not available on this machine")
    checked = CheckedKernels(is_strict=backend == "metal")
    return Kernels(checked.sample, checked.pool, checked.warm)


def _has_metal() -> bool:
    return mx.metal.is_available() and mx.default_device() == mx.gpu
