"""The script that compiles the kernels on a Mac, with a stub of its compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in *"$REFUSED"*) echo "error: refused" >&2; exit 1;; esac
"""

pytestmark = pytest.mark.slow


def compile_kernels(
    tmp_path: Path, refused: str
) -> tuple[subprocess.CompletedProcess, list[str]]:
    """The run of the script with a compiler that refuses a word, and the compiler's calls."""
    stub, log = tmp_path / "xcrun", tmp_path / "log"
    stub.write_text(STUB)
    stub.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "LOG": str(log),
        "REFUSED": refused,
        "PYTHON": sys.executable,
    }
    result = subprocess.run(
        [ROOT / ".ci" / "compile-kernels"], env=environment, capture_output=True, text=True
    )
    return result, log.read_text().splitlines()


def test_kernels_are_compiled_in_each_version_that_the_toolchain_knows(tmp_path):
    result, calls = compile_kernels(tmp_path, refused="metal4.1")
    assert result.returncode == 0, result.stderr
    assert "compiled as: metal3.1 metal3.2 metal4.0\n" in result.stdout
    compiled = [call for call in calls if ".metal " in call]
    assert len(compiled) == 3 * (12 + 6)
    assert all("-fno-fast-math" in call for call in compiled)


@pytest.mark.parametrize("refused", ["-std=metal", "sample_7.metal"])
def test_a_compiler_that_refuses_fails_the_script(tmp_path, refused):
    result, _ = compile_kernels(tmp_path, refused)
    assert result.returncode != 0
