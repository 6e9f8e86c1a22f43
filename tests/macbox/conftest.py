"""The device of the box, without its system: for tests of the engine in this process."""

import sys
from collections.abc import Callable, Iterator
from types import FunctionType

import pytest
from macbox.device import as_gpu
from macbox.facts import MACS

from mlxnode.engine.cpu.model import REPLACEMENTS
from mlxnode.kernels import pool_metal, sample_metal


def undo_cpu_functions(replace: Callable[[object, str, object], None]) -> None:
    """Give mlx-lm's modules their functions back: an earlier test may have loaded a model."""
    own = {faster: function for function, faster in REPLACEMENTS}
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models."):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in own:
                    replace(module, attribute, own[value])


@pytest.fixture(
    params=[
        pytest.param("emulated", marks=pytest.mark.slow),
        pytest.param("real", marks=pytest.mark.metal),
    ]
)
def gpu(request) -> Iterator[str]:
    """The real GPU; or the small Mac's by name, with custom kernels in the emulator."""
    if request.param == "emulated":
        replace = request.getfixturevalue("monkeypatch").setattr
        as_gpu(MACS["small"], replace)
        undo_cpu_functions(replace)
    for kernel in (sample_metal.kernel, pool_metal.kernel):
        kernel.cache_clear()
    yield request.param
    for kernel in (sample_metal.kernel, pool_metal.kernel):
        kernel.cache_clear()
