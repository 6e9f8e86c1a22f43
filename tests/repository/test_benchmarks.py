"""The random models of the benchmark have the caches that their names say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST_LAYERS = """
from random_models import CONFIGS, build
for name, config in CONFIGS.items():
    layers = build(config).make_cache()
    print(name, *(f"{type(c).__name__}:{getattr(c, 'max_size', '')}" for c in layers))
"""


@pytest.mark.slow
def test_random_models_have_states_and_windows():
    command = [sys.executable, "-c", LIST_LAYERS]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT / "benchmarks"
    ).stdout.split("\n")
    state, window, full = "ArraysCache:", "RotatingKVCache:512", "KVCache:"
    assert found == [
        " ".join(["hybrid", *[state, state, state, full] * 2]),
        " ".join(["windows", *[window, window, window, full] * 2]),
        "",
    ]
