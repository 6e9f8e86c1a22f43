"""Limits, wired memory and the footprint of the process."""

import ctypes
import os
import subprocess
import sys

import mlx.core as mx
import pytest

from mlxnode import footprint
from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory import device, plan, wired

GB = 10**9


@pytest.fixture
def limits(monkeypatch) -> list[tuple[str, int]]:
    """The limits that were set, in order; MLX itself keeps its own."""
    calls = []
    for name in ("set_memory_limit", "set_cache_limit", "set_wired_limit"):
        monkeypatch.setattr(mx, name, lambda size, name=name: calls.append((name, size)))
    return calls


@pytest.fixture
def mac(monkeypatch) -> None:
    """The device facts of a Mac with 32 GB."""
    facts = {"max_recommended_working_set_size": 22 * GB, "memory_size": 32 * GB}
    monkeypatch.setattr(mx, "device_info", lambda: facts)


def test_memory_limit_is_what_is_recommended_unless_configured(mac):
    assert device.memory_limit(EngineConfig()) == 22 * GB
    assert device.memory_limit(EngineConfig(memory_gb=5.5)) == 5.5 * GB


def test_memory_limit_without_a_gpu_leaves_a_share(monkeypatch):
    monkeypatch.setattr(mx, "device_info", lambda: {"architecture": "x86_64"})
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert device.memory_limit(EngineConfig()) == int(0.8 * physical)


def test_buffer_cache_is_two_gb_or_a_tenth_unless_configured(mac, limits):
    assert device.buffer_cache_limit(EngineConfig()) == 2 * GB
    assert device.buffer_cache_limit(EngineConfig(memory_gb=8)) == 0.8 * GB
    assert device.buffer_cache_limit(EngineConfig(buffer_cache_gb=0)) == 0
    device.limit_memory(EngineConfig(buffer_cache_gb=0.5))
    assert limits == [("set_memory_limit", 22 * GB), ("set_cache_limit", GB // 2)]


@pytest.mark.slow
def test_freed_buffers_stay_below_the_buffer_cache_limit():
    # In a process of its own: the limits are the process's.
    code = """
import mlx.core as mx
from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory.device import limit_memory
limit_memory(EngineConfig(memory_gb=2, buffer_cache_gb=0.05))
largest = 0
for size in range(1, 9):  # arrays of 4 to 32 MB, freed in every order of sizes
    arrays = [mx.ones((size * 10**6,)) for _ in range(4)]
    mx.eval(arrays)
    del arrays
    mx.eval(mx.ones((1,)))  # on a GPU, the limit is kept at the next allocation
    largest = max(largest, mx.get_cache_memory())
assert 0.02e9 < largest <= 0.05e9, largest
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plan_shares_the_limit(mac):
    config = EngineConfig()
    assert plan.free_after(config, 10 * GB) == 10 * GB
    assert plan.kv_cache_bytes(config, 10 * GB, 3 * GB) == 7 * GB
    assert plan.kv_cache_bytes(config, 30 * GB, 3 * GB) == 0


def test_plan_gives_no_more_than_is_free(mac, caplog):
    few, many = EngineConfig(kv_cache_gb=2), EngineConfig(kv_cache_gb=9)
    assert plan.kv_cache_bytes(few, 10 * GB, 3 * GB) == 2 * GB
    plan.describe(few, 10 * GB, 3 * GB, 2 * GB)
    assert caplog.text == ""
    assert plan.kv_cache_bytes(many, 10 * GB, 3 * GB) == 7 * GB
    plan.describe(many, 10 * GB, 3 * GB, 7 * GB)
    assert "engine.kv_cache_gb = 9: only 7.00 GB are free" in caplog.text


# --- wired memory ------------------------------------------------------------------------


def test_weights_are_wired_if_configured_as_many_as_there_are(mac, limits):
    wired.WiredWeights(EngineConfig()).wire(15 * GB)
    assert limits == []
    weights = wired.WiredWeights(EngineConfig(wired_memory="weights"))
    for size in (15 * GB, 4 * GB, 0):
        weights.wire(size)
        assert weights.size == size
    assert limits == [("set_wired_limit", size) for size in (15 * GB, 4 * GB, 0)]


def test_wired_memory_is_never_the_maximum():
    assert wired.wired_bytes(15 * GB, 22 * GB) == 15 * GB
    for weights in (22 * GB, 30 * GB):
        assert wired.wired_bytes(weights, 22 * GB) == int(0.9 * 22 * GB)


def test_wiring_without_a_gpu_does_nothing_and_says_so(limits, monkeypatch, caplog):
    monkeypatch.setattr(mx, "device_info", lambda: {"architecture": "x86_64"})
    weights = wired.WiredWeights(EngineConfig(wired_memory="weights"))
    weights.wire(15 * GB)
    assert weights.size == 0
    assert limits == []
    assert 'wired_memory = "weights" does nothing here' in caplog.text


def test_wiring_helps_weights_near_the_size_of_the_memory():
    assert wired.would_help(20 * GB, 22 * GB)
    assert not wired.would_help(8 * GB, 22 * GB)


# --- the footprint -----------------------------------------------------------------------


class Library:
    """The functions of macOS's libSystem that are called, by their C signatures."""

    def __init__(self, result: int = 0, level: int = 1):
        self.result, self.level = result, level

    def proc_pid_rusage(self, pid, flavor, pointer):
        assert (pid, flavor) == (os.getpid(), 0)
        # By the layout of <sys/resource.h>: 16 bytes of UUID, then eight numbers of 8 bytes.
        info = (ctypes.c_uint64 * 12).from_address(ctypes.addressof(pointer._obj))
        info[2 + 6], info[2 + 7] = 111, 222  # resident size, physical footprint
        return self.result

    def sysctlbyname(self, name, pointer, size, new, new_size):
        assert name == b"kern.memorystatus_vm_pressure_level"
        assert size._obj.value == 4 and new is None
        pointer._obj.value = self.level
        return self.result


def test_footprint_on_macos_is_the_physical_one():
    assert ctypes.sizeof(footprint._RusageInfo) == 96
    assert footprint.phys_footprint(Library(), os.getpid()) == 222
    assert footprint.phys_footprint(Library(result=-1), os.getpid()) is None


def test_footprint_on_macos_falls_back_to_the_largest_so_far(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(footprint, "_system_library", Library)
    assert footprint.footprint() == 222
    monkeypatch.setattr(footprint, "_system_library", lambda: Library(result=-1))
    assert footprint.footprint() > 10_000


def test_footprint_without_proc_is_the_largest_so_far(monkeypatch, tmp_path):
    monkeypatch.setattr(footprint, "_PROC", tmp_path)
    assert footprint.footprint() >= 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_footprint_on_linux_grows_with_what_is_touched():
    before = footprint.footprint()
    data = b"x" * 50_000_000
    assert footprint.footprint() - before > 40_000_000
    del data


@pytest.mark.metal
def test_footprint_has_the_memory_of_the_gpu():
    before = footprint.footprint()
    array = mx.ones((100_000_000,), mx.uint8)
    mx.eval(array)
    assert footprint.footprint() - before > 90_000_000
    del array


@pytest.mark.parametrize(("level", "is_short"), [(1, False), (2, False), (4, True)])
def test_system_is_short_of_memory_at_its_critical_level(monkeypatch, level, is_short):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(footprint, "_system_library", lambda: Library(level=level))
    assert footprint.is_system_short_of_memory() is is_short
    assert footprint.pressure_level(Library(result=-1, level=4)) == 0
