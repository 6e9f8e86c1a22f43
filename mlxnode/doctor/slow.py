"""What would make the node slow on this machine with this configuration, and why."""

import ctypes.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mlxnode.config.file import LoadedConfig
from mlxnode.config.tables import EngineConfig, ServerConfig
from mlxnode.doctor.commands import output_of, sysctl
from mlxnode.doctor.findings import Finding, Section, gigabytes
from mlxnode.doctor.system import is_mac

_MEMINFO = Path("/proc/meminfo")
_MUCH_SWAP = 2e9  # bytes: other programs' or ours, something does not fit
_SMALL_BUFFERS = 0.25  # GB


def check_slow(loaded: LoadedConfig | None) -> Section:
    """The reasons that were found; one finding that says so if there are none."""
    found = [*_of_machine()]
    if loaded is not None:
        config = loaded.config
        found += [*_of_engine(config.engine), *_of_server(config.server)]
    if not any(finding.status == "warn" for finding in found):
        found.append(Finding("settings", "ok", "nothing here makes a node slow"))
    return Section("What would be slow", found)


def _of_machine() -> Iterator[Finding]:
    if is_mac():
        yield from power()
    elif sys.platform == "linux" and ctypes.util.find_library("openblas") is None:
        text = "OpenBLAS is not installed: products of matrices take ten times as long"
        yield Finding("BLAS", "warn", text, "install libopenblas0-pthread (Debian, Ubuntu)")
    used = swap_used()
    if used is None:
        return
    if used > _MUCH_SWAP:
        text = f"{gigabytes(used)} of memory are swapped out: weights may be read from disk"
        yield Finding("swap", "warn", text, "end other programs, or serve smaller models")
    else:
        yield Finding("swap", "ok", f"{gigabytes(used)} of memory are swapped out")


def power() -> Iterator[Finding]:
    """The settings of macOS that slow a node down, or put the Mac to sleep."""
    text = output_of("pmset", "-g")
    if text is None:
        yield Finding("power", "info", "pmset does not tell the settings")
        return
    settings = dict(re.findall(r"^\s*(\w+)\s+(\d+)", text, re.MULTILINE))
    if settings.get("lowpowermode") == "1":
        advice = "switch Low Power Mode off in System Settings, Battery"
        yield Finding("power", "warn", "Low Power Mode slows the chip down", advice)
    minutes = settings.get("sleep", "0")
    if minutes == "0":
        yield Finding("idle sleep", "ok", "the Mac does not sleep by itself")
    else:
        yield Finding(
            "idle sleep",
            "info",
            f"the Mac sleeps after {minutes} minutes without a request, and then no client "
            "reaches the node; sudo pmset -c sleep 0 keeps it awake on its adapter",
        )


def swap_used() -> int | None:
    """Bytes of memory that are swapped out; None: the system does not say."""
    if is_mac():
        found = re.search(r"used = ([\d.]+)M", sysctl("vm.swapusage") or "")
        return int(float(found[1]) * 2**20) if found else None
    if not _MEMINFO.exists():
        return None
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE))
    if not {"SwapTotal", "SwapFree"} <= sizes.keys():
        return None
    return (int(sizes["SwapTotal"]) - int(sizes["SwapFree"])) * 1024


def _of_engine(engine: EngineConfig) -> Iterator[Finding]:
    buffers = engine.buffer_cache_gb
    if buffers is not None and buffers < _SMALL_BUFFERS:
        text = f"{buffers:g} GB: buffers of each step are allocated anew"
        yield Finding("engine.buffer_cache_gb", "warn", text, "leave it out: at least 0.25")
    if engine.prefix_cache_gb == 0:
        text = "0: each turn of a conversation computes the whole history again"
        yield Finding("engine.prefix_cache_gb", "warn", text, "leave it out")
    if engine.max_batch_size == 1:
        text = "1: requests run one after the other"
        yield Finding("engine.max_batch_size", "warn", text, "leave it out")
    if engine.kernels == "ops" and is_mac():
        text = '"ops": sampling by many operations instead of one kernel'
        yield Finding("engine.kernels", "warn", text, "leave it out")


def _of_server(server: ServerConfig) -> Iterator[Finding]:
    processors = os.cpu_count() or 1
    if server.workers is not None and server.workers > processors:
        text = f"{server.workers}: more than {processors} processors, which the engine needs"
        yield Finding("server.workers", "warn", text, "leave it out")
    if server.log_level == "debug":
        yield Finding("server.log_level", "warn", '"debug" logs a lot', 'use "info"')
    if not server.prevent_sleep and is_mac():
        text = "false: the Mac can sleep during a long answer"
        yield Finding("server.prevent_sleep", "warn", text, "leave it out")
