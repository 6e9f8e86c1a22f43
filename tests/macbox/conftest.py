"""The device of the box, without its system: for tests of the engine in this process."""

from collections.abc import Iterator

import pytest
from macbox.device import as_gpu
from macbox.facts import MACS

from mlxnode.kernels import pool_metal, sample_metal


@pytest.fixture(
    params=[
        pytest.param("emulated", marks=pytest.mark.slow),
        pytest.param("real", marks=pytest.mark.metal),
    ]
)
def gpu(request) -> Iterator[str]:
    """The real GPU; or the small Mac's by name, with custom kernels in the emulator."""
    if request.param == "emulated":
        as_gpu(MACS["small"], request.getfixturevalue("monkeypatch").setattr)
    for kernel in (sample_metal.kernel, pool_metal.kernel):
        kernel.cache_clear()
    yield request.param
    for kernel in (sample_metal.kernel, pool_metal.kernel):
        kernel.cache_clear()
