"""The CPU backend has one door, and the first step through it comes before mlx."""

import re
import subprocess
import sys
from pathlib import Path

import mlxnode

ROOT = Path(mlxnode.__file__).parent
DOOR = ROOT / "engine" / "cpu"


def test_prepare_process_imports_no_mlx():
    code = (
        "import sys; from mlxnode.engine import cpu; cpu.prepare_process(); "
        "sys.exit(any(name.partition('.')[0] in ('mlx', 'mlx_lm') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_entry_imports_no_mlx():
    code = "import sys, mlxnode.engine.entry; sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nothing_else_knows_the_cpu_backend():
    """Other files import the package alone, and have no branch for the CPU."""
    known = re.compile(r"mx\.cpu|engine\.cpu\.|import (blas|malloc)")
    for file in (ROOT / "engine").rglob("*.py"):
        if DOOR not in file.parents:
            assert not known.search(file.read_text()), file
