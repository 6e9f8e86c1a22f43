"""The tests that only an Apple GPU can pass, where the command runs from a clone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import mlxnode
from mlxnode.doctor.findings import Finding, Section

_TIMEOUT = 1800.0  # seconds
_LAST_LINES = 60


def metal_tests(root: Path = Path(mlxnode.__file__).parents[1]) -> Section:
    """Run the tests marked ``metal`` of the clone at ``root``."""
    title = "Metal tests"
    if not (root / "tests" / "conftest.py").is_file():
        finding = Finding(
            "tests", "info", "not a clone of the repository: run `make mac-report`"
        )
        return Section(title, [finding])
    if importlib.util.find_spec("pytest") is None:
        finding = Finding("tests", "info", "pytest is not installed: run `make mac-report`")
        return Section(title, [finding])
    command = [sys.executable, "-m", "pytest", "-m", "metal", "-q", "--tb=short"]
    try:
        result = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            cwd=root,
            # TF32 is one of the questions of the report, but no part of these tests.
            env=os.environ | {"MLX_ENABLE_TF32": "0", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        finding = Finding("tests", "fail", f"no end within {_TIMEOUT:.0f} s")
        return Section(title, [finding])
    lines = result.stdout.strip().splitlines()
    summary = lines[-1].strip("= ") if lines else f"exit code {result.returncode}"
    status = "ok" if result.returncode == 0 else "fail"
    log = "\n".join([*lines[-_LAST_LINES:], result.stderr.strip()[-2000:]]).strip()
    return Section(title, [Finding("tests", status, summary)], log=log)
