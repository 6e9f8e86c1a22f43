"""The programs that only tests need."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of a program. Without it, the test skips, but fails in CI, which installs it."""
    if path := shutil.which(name):
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not on PATH: `make test` installs it (.ci/packages.sh)")
    pytest.skip(f"{name} is not on PATH")
