"""The estimate against MLX's own peak memory: ``benchmarks/fit.py``, in its own process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.tables import some_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# One of each: plain, quantized keys and values, quantized experts, a load that is the peak,
# states.
CASES = ["llama-16-rows", "llama-kv-8", "qwen3-moe-4-bit", "qwen2-big-vocabulary", "qwen3-next"]


@pytest.mark.long
@pytest.mark.parametrize("case", some_of(CASES, ["qwen2-big-vocabulary"]))
def test_estimate_is_within_a_tenth_of_the_peak(case):
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.fit", case],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    found = re.search(r"largest error ([\d.]+)%", result.stdout)
    assert found and float(found[1]) <= 10, result.stdout
