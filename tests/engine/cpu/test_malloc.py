"""Freed arrays stay in the heap until memory is released."""

import subprocess
import sys

import pytest

_CODE = """
import numpy as np
from mlxnode.engine.cpu import malloc

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

malloc.keep_freed_arrays()
arrays = [np.ones(1 << 21) for _ in range(10)]  # 16 MB each
full = resident()
del arrays
kept = resident()
malloc.release()
print(full - kept, full - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="not Linux")
def test_freed_arrays_stay_in_the_heap_until_memory_is_released():
    output = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=True
    ).stdout
    at_once, in_the_end = map(int, output.split())
    assert at_once < 20e6
    assert in_the_end > 140e6


@pytest.mark.skipif(sys.platform == "linux", reason="Linux")
def test_nothing_is_done_elsewhere():
    code = "from mlxnode.engine.cpu import malloc; malloc.keep_freed_arrays(); malloc.release()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
