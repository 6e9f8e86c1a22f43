"""The device as MLX sees it. Imports mlx, so its functions are probes."""

import os
from collections.abc import Callable

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.doctor.commands import sysctl
from mlxnode.doctor.findings import Finding, Section, gigabytes
from mlxnode.doctor.node import memory
from mlxnode.engine.memory.device import memory_limit, recommended_memory
from mlxnode.engine.memory.wired import would_help
from mlxnode.kernels.variants import PoolVariant, SampleVariant, check_variant


def device(weights: int, memory_gb: float | None, is_mac: bool) -> Section:
    """The quick checks: the device, its memory for ``weights`` bytes of models, the kernels."""
    limit = memory_limit(EngineConfig(memory_gb=memory_gb))
    found = [gpu(is_mac), memory(weights, limit), *wiring(weights), kernels()]
    return Section("Device", found)


def device_facts() -> Section:
    """What MLX and macOS report about the device and its limits."""
    facts = {**mx.device_info(), "default_device": mx.default_device()}
    rows = [[str(name), _fact(name, value)] for name, value in sorted(facts.items())]
    for name in ("hw.memsize", "iogpu.wired_limit_mb", "kern.maxfilesperproc"):
        if (value := sysctl(name)) is not None:
            rows.append([f"sysctl {name}", value])
    rows.append(["MLX memory limit", gigabytes(_limit(mx.set_memory_limit))])
    rows.append(["MLX cache limit", gigabytes(_limit(mx.set_cache_limit))])
    rows.append(["MLX wired limit", gigabytes(_limit(mx.set_wired_limit))])
    variables = sorted(name for name in os.environ if name.startswith(("MLX_", "MTL_")))
    rows += [[f"${name}", os.environ[name]] for name in variables]
    return Section("Device facts", table=[["fact", "value"], *rows])


def gpu(is_mac: bool) -> Finding:
    """Whether MLX computes on an Apple GPU."""
    name = str(mx.device_info().get("device_name", "unknown"))
    if mx.metal.is_available() and mx.default_device() == mx.gpu:
        return Finding("device", "ok", f"{name}, by Metal")
    if is_mac:
        advice = "is it a virtual machine? install mlx again: pip install --force-reinstall mlx"
        return Finding("device", "fail", "MLX finds no Metal device on this Mac", advice)
    return Finding("device", "info", f"{name}, without a GPU: all works, but slowly")


def wiring(weights: int) -> list[Finding]:
    """A hint where wired weights may help: when they almost fill the working set."""
    recommended = recommended_memory()
    if recommended is None or not would_help(weights, recommended):
        return []
    text = f"the weights are near the working set of {gigabytes(recommended)}"
    return [Finding("wired memory", "warn", text, 'try [engine] wired_memory = "weights"')]


def kernels() -> Finding:
    """Whether the Metal kernels work."""
    if not mx.metal.is_available():
        return Finding("kernels", "info", "operations of MLX; Metal's kernels need a Mac")
    # The two that most requests need; the report has all.
    float16 = mx.float16
    variants = [SampleVariant(float16, False, False), PoolVariant(float16, True)]
    results = [check_variant(variant) for variant in variants]
    failed = [result for result in results if not result.works]
    if failed:
        text = "; ".join(f"{result.name}: {result.error.splitlines()[0]}" for result in failed)
        advice = "a node uses MLX's operations instead; please report it"
        return Finding("kernels", "warn", text, advice)
    return Finding("kernels", "ok", "the Metal kernels compile and give the right results")


def _limit(set_limit: Callable[[int], int]) -> int:
    """The limit now: MLX tells it only when a new one is set."""
    before = set_limit(0)
    set_limit(before)
    return before


def _fact(name: str | int, value: object) -> str:
    if isinstance(value, int) and ("size" in str(name) or "length" in str(name)):
        return f"{value} ({gigabytes(value)})"
    return str(value)
