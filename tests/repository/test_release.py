"""``make release``: what it builds and writes, and what it refuses."""

import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "3.4.5"  # another than today's
CHANGELOG = f"""# Changelog

## [Unreleased]

## [{VERSION}] - 2030-02-28

### Added

- Much.

## [0.1.0] - 2026-11-25
"""
NAMES = (
    ".ci/release.py .gitignore CHANGELOG.md Formula LICENSE MANIFEST.in README.md config.toml "
    "kernels mlxnode pyproject.toml tests/support/tiny.py tests/cli/test_commands.py"
)


def git(folder: Path, *arguments: str) -> str:
    author = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")


@pytest.fixture(autouse=True)
def no_git_variables(monkeypatch):
    """A git hook that runs the tests sets them, for its own repository."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A clean checkout of what is released, ready for the version ``VERSION``."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in NAMES.split():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target)
    replace(
        folder / "mlxnode/__init__.py", r'(?m)^__version__ = ".*"', f'__version__ = "{VERSION}"'
    )
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    return folder


def replace(file: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, file.read_text())
    assert count
    file.write_text(text)


def release(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / ".ci/release.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def assert_refused(checkout: Path, why: str) -> None:
    """It fails in a few words, and writes nothing."""
    before = git(checkout, "status", "--porcelain", "--ignored")
    result = release(checkout)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("no release: ") and why in result.stderr
    assert git(checkout, "status", "--porcelain", "--ignored") == before


@pytest.mark.slow
def test_release_builds_both_packages_and_writes_the_stable_block(checkout):
    (checkout / "build").mkdir()  # ignored by git: an older build that must not get in
    (checkout / "build" / "lib.py").write_text("")
    before = (checkout / "Formula/mlxnode.rb").read_text()
    result = release(checkout)
    assert result.returncode == 0, result.stderr
    names = {file.name for file in (checkout / "dist").iterdir()}
    sdist, wheel = f"mlxnode-{VERSION}.tar.gz", f"mlxnode-{VERSION}-py3-none-any.whl"
    assert names == {sdist, wheel}
    with tarfile.open(checkout / "dist" / sdist) as files:
        inside = {name.partition("/")[2] for name in files.getnames()}
    assert {"config.toml", "tests/support/tiny.py", "kernels/sample.metal"} <= inside
    assert not [name for name in inside if "lib.py" in name or "test_" in name]
    with zipfile.ZipFile(checkout / "dist" / wheel) as archive:
        shipped = archive.read("mlxnode/config/shipped.toml").decode()
        assert shipped == (ROOT / "config.toml").read_text()
        assert {"mlxnode/cli/group.py", "mlxnode/kernels/sample.metal"} <= set(
            archive.namelist()
        )

    digest = hashlib.sha256((checkout / "dist" / sdist).read_bytes()).hexdigest()
    url = f"https://github.com/mlxnode/mlxnode/releases/download/v{VERSION}/{sdist}"
    after = (checkout / "Formula/mlxnode.rb").read_text()
    block = f'  url "{url}"\n  sha256 "{digest}"\n'
    assert after.count(block) == 1 and after.count("sha256 ") - 1 == before.count("sha256 ")
    assert after.index("  homepage ") < after.index(block) < after.index("  license ")
    assert after.replace(block, "") == re.sub(r'(?m)^  (url|sha256) ".*"\n', "", before)
    # Nothing is committed or tagged: the text says how.
    assert git(checkout, "status", "--porcelain") == " M Formula/mlxnode.rb\n"
    assert git(checkout, "tag") == ""
    assert f"git tag v{VERSION}" in result.stdout and f"dist/{sdist}" in result.stdout


@pytest.mark.slow
def test_release_replaces_the_stable_block_of_the_last_version(checkout):
    replace(
        checkout / "Formula/mlxnode.rb",
        r"(?m)^(  homepage .*\n)",
        r'\1  url "https://example.org/old.tar.gz"\n  sha256 "00"\n',
    )
    commit(checkout)
    assert release(checkout).returncode == 0
    text = (checkout / "Formula/mlxnode.rb").read_text()
    assert "old.tar.gz" not in text and len(re.findall(r'(?m)^  (?:url|sha256) "', text)) == 2


@pytest.mark.parametrize("name", ["notes.txt", "mlxnode/cli/group.py"])
def test_release_refuses_a_tree_with_changes(checkout, name):
    with open(checkout / name, "a") as file:
        file.write("\n")
    assert_refused(checkout, name)


@pytest.mark.parametrize(
    ("pattern", "new", "why"),
    [
        (rf"\[{VERSION}\]", "[3.4.6]", "[3.4.6] - 2030-02-28"),
        (" - 2030-02-28", "", f"expected [{VERSION}] - YYYY-MM-DD"),
        ("2030-02-28", "2030-02-30", "no date"),
        ("2030-02-28", "20300228", "no date"),
        (
            r"\[Unreleased\]\n",
            "[Unreleased]\n\n### Fixed\n\n- A fault.\n",
            "under [Unreleased]",
        ),
        (r"## \[Unreleased\]\n", "", "must begin with [Unreleased]"),
        (r"### Added\n\n- Much.\n", "", "is empty"),
        (r"(?s)\n## .*", "", "must begin with [Unreleased]"),
    ],
)
def test_changelog_without_the_version_is_refused(pattern, new, why):
    script = runpy.run_path(str(ROOT / ".ci/release.py"))
    text, count = re.subn(pattern, new, CHANGELOG)
    assert count
    script["check_changelog"](CHANGELOG, VERSION)
    with pytest.raises(script["ReleaseError"], match=re.escape(why)):
        script["check_changelog"](text, VERSION)


def test_release_refuses_a_changelog_without_the_version(checkout):
    replace(checkout / "mlxnode/__init__.py", VERSION, "3.4.6")
    commit(checkout)
    assert_refused(checkout, "expected [3.4.6] - YYYY-MM-DD")


@pytest.mark.parametrize("version", ["3.4", "3.4.5.dev0", ""])
def test_version_of_another_form_is_refused(tmp_path, version):
    script = runpy.run_path(str(ROOT / ".ci/release.py"))
    (tmp_path / "mlxnode").mkdir()
    (tmp_path / "mlxnode/__init__.py").write_text(f'"""Doc."""\n\n__version__ = "{version}"\n')
    with pytest.raises(script["ReleaseError"], match="__version__"):
        script["read_version"](tmp_path)


def test_release_refuses_a_version_that_has_a_tag(checkout):
    git(checkout, "tag", f"v{VERSION}")
    assert_refused(checkout, f"v{VERSION} has a tag")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "pattern", "new", "missing"),
    [
        ("pyproject.toml", r'"mlxnode.kernels" = \["\*.metal"\]\n', "", "kernels/sample.metal"),
        ("pyproject.toml", r'    "mlxnode.server.http",\n', "", "mlxnode/server/http/body.py"),
        ("MANIFEST.in", "config.toml", "", "config.toml"),
        ("MANIFEST.in", "include tests/support/tiny.py", "", "tests/support/tiny.py"),
    ],
)
def test_release_refuses_packages_that_lack_files(checkout, file, pattern, new, missing):
    replace(checkout / file, pattern, new)
    commit(checkout)
    assert_refused(checkout, missing)


@pytest.mark.slow
def test_release_refuses_packages_that_cannot_be_built(checkout):
    replace(checkout / "pyproject.toml", r"(?m)^name = .*$", "name = 3")
    commit(checkout)
    assert_refused(checkout, "cannot be built")
