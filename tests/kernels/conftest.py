"""The Metal kernels, run by the emulator or, where there is one, by a real GPU."""

from collections.abc import Iterator

import mlx.core as mx
import pytest
from metal.emulator import EmulatedKernel

from mlxnode.kernels import pool_metal, sample_metal


def _forget_kernels() -> None:
    sample_metal.kernel.cache_clear()
    pool_metal.kernel.cache_clear()


@pytest.fixture
def emulated(monkeypatch) -> Iterator[None]:
    """Custom kernels run in the emulator, checked."""
    monkeypatch.setattr(mx.fast, "metal_kernel", EmulatedKernel)
    _forget_kernels()
    yield
    _forget_kernels()


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.metal)])
def device(request) -> str:
    """Where the Metal kernels run."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    return request.param
