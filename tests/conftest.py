"""Markers of the test tiers; custom kernels in the emulator; the demo models, fetched once."""

import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hidden_home import VARIABLES, hide_models
from support.metal_device import metal_device, why_not_on_metal

from mlxnode.engine.cpu.blas import preload_blas
from mlxnode.models.demo import fetch_demo_model

# As the engine does, and as early: on Linux, MLX's own matrix products are twelve times slower.
preload_blas()

LONG_FOLDERS = {"faults", "soak"}  # whole nodes under attack
# Fixtures that start processes, compile kernels for the emulator or load a demo model.
SLOW_FIXTURES = {
    "demo_chat",
    "demo_embedding",
    "emulated",
    "examples",
    "full_worker",
    "node_modules",
    "open_worker",
    "start_engine",
    "start_worker",
    "tool_worker",
}


def pytest_configure(config: pytest.Config) -> None:
    """No test writes to the user's own usage file, or sees the user's models and settings.

    Nodes of the tests start as from a terminal, also where the tests run in the background.

    There, signals may be ignored, which children inherit: a node stays then as under nohup.
    """
    folder = tempfile.TemporaryDirectory(prefix="mlxnode-state-")
    config.add_cleanup(folder.cleanup)
    os.environ["MLXNODE_STATE"] = folder.name
    _hide_models(config)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _hide_models(config: pytest.Config) -> None:
    """Not in the state folder, whose path has to stay short for sockets."""
    folder = tempfile.TemporaryDirectory(prefix="mlxnode-home-")
    config.add_cleanup(folder.cleanup)
    try:
        hide_models(Path.home(), Path(folder.name))
    except RuntimeError:  # a user without a home folder
        return
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ["HOME"] = folder.name


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is ``slow`` by its fixture, and ``long`` by its folder.

    Skip ``metal`` where there is no device.
    """
    for item in items:
        if LONG_FOLDERS & set(item.path.relative_to(Path(__file__).parent).parts):
            item.add_marker(pytest.mark.long)
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    marked = [item for item in items if item.get_closest_marker("metal")]
    if marked:
        for item in marked:
            if reason := why_not_on_metal(bool(item.get_closest_marker("parity"))):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    """No test leaves a signal ignored: the processes of later tests would inherit that."""
    before = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)
    yield
    assert (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture(autouse=True)
def _cpu_unless_metal(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is not marked ``metal`` computes on the CPU: its tolerances are the CPU's."""
    if not metal_device() or request.node.get_closest_marker("metal"):
        yield
        return
    import mlx.core as mx

    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(usual)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process may open as many as the system allows; imports of mlx_lm set 2,048."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 10_240 if hard == resource.RLIM_INFINITY else min(hard, 10_240)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def emulated(monkeypatch) -> Iterator[None]:
    """The Metal kernels run in the emulator, checked."""
    import mlx.core as mx
    from metal.emulator import EmulatedKernel

    from mlxnode.kernels import pool_metal, sample_metal

    kernels = (sample_metal.kernel, pool_metal.kernel)
    monkeypatch.setattr(mx.fast, "metal_kernel", EmulatedKernel)
    for kernel in kernels:
        kernel.cache_clear()
    yield
    for kernel in kernels:
        kernel.cache_clear()


@pytest.fixture(scope="session")
def demo_chat() -> Path:
    """SmolLM2-135M-Instruct, a GGUF file."""
    return fetch_demo_model("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def demo_embedding() -> Path:
    """all-MiniLM-L6-v2, a sentence-transformers folder."""
    return fetch_demo_model("all-minilm-l6-v2")
