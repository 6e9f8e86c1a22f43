"""What is installed: every package, the kernels' sources, the marker of a typed package."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SUFFIXES = (".py", ".metal", ".toml", ".typed", ".css", ".html", ".js", ".svg")


def packages_of(folder: Path) -> set[str]:
    """The dotted names of the folders with an ``__init__.py``, from ``folder`` down.

    Links are not followed.
    """
    return {
        ".".join(Path(path).relative_to(folder.parent).parts)
        for path, _, names in os.walk(folder)
        if "__init__.py" in names
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """The names in the wheel that the build backend makes of this checkout."""
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("mlxnode", "kernels"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE", "config.toml"):
        shutil.copy(ROOT / file, source)
    folder = tmp_path_factory.mktemp("wheel")
    # In a process of its own: setuptools replaces distutils in the one that imports it.
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    (name,) = folder.glob("*.whl")
    with zipfile.ZipFile(name) as archive:
        return set(archive.namelist())


def test_packages_are_the_folders_with_an_init():
    expected = packages_of(ROOT / "mlxnode") | {"mlxnode.kernels"}
    assert SETUPTOOLS["packages"] == sorted(expected)


def test_packages_kernels_is_a_link_and_mapped():
    link = ROOT / "mlxnode" / "kernels"
    assert link.is_symlink() and link.resolve() == ROOT / "kernels"
    assert SETUPTOOLS["package-dir"] == {"mlxnode.kernels": "kernels"}


def test_wheel_has_every_source_file(wheel):
    expected = {
        Path(folder, name).relative_to(ROOT).as_posix()
        for top in ("mlxnode", "kernels")
        for folder, _, names in os.walk(ROOT / top)
        for name in names
        if Path(name).suffix in SUFFIXES
    }
    expected = {f"mlxnode/{name}" if name[0] == "k" else name for name in expected}
    assert {"mlxnode/py.typed", "mlxnode/kernels/sample.metal"} <= expected
    assert {name for name in wheel if ".dist-info/" not in name} == expected


def test_wheel_has_the_license(wheel):
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_kernels_are_no_top_level_module(tmp_path):
    """transformers takes a module called ``kernels`` for the package of that name."""
    code = (
        "import importlib.util, mlxnode.kernels;"
        "assert importlib.util.find_spec('kernels') is None"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", code]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
