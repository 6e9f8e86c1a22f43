"""Build the sdist and the wheel of a release, and write the formula's stable block.

Everything comes from the last commit, into ``dist/`` and ``Formula/mlxnode.rb``. Nothing is
uploaded, tagged or committed: the last lines say what to do next. It refuses a tree with
changes, a version without its own dated section of CHANGELOG.md, and packages that lack files.

Usage: release.py [root of the checkout]
"""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import date
from pathlib import Path

FORMULA = Path("Formula/mlxnode.rb")
DOWNLOADS = "https://github.com/mlxnode/mlxnode/releases/download"
# What the formula takes from the sdist, beside the package.
FORMULA_FILES = {"config.toml", "tests/support/tiny.py", "LICENSE"}
PACKAGED = {".py", ".metal", ".typed"}


class ReleaseError(Exception):
    """The reason why there is no release."""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise ReleaseError(f"git {arguments[0]}: {result.stderr.strip()}")
    return result.stdout


def check_tree(root: Path) -> None:
    """The commit is the release, so nothing may differ from it."""
    if changes := git(root, "status", "--porcelain").rstrip():
        raise ReleaseError(f"the tree has changes; commit them first:\n{changes}")


def read_version(root: Path) -> str:
    text = (root / "mlxnode/__init__.py").read_text()
    if found := re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE):
        return found[1]
    raise ReleaseError("mlxnode/__init__.py has no __version__ of three numbers")


def check_tag(root: Path, version: str) -> None:
    if git(root, "tag", "--list", f"v{version}").strip():
        raise ReleaseError(f"v{version} has a tag: set __version__ to the next version")


def check_changelog(text: str, version: str) -> None:
    """``text`` has nothing unreleased, then a dated section of ``version``.

    Raises:
        ReleaseError: otherwise.
    """
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    bodies = [section.partition("\n")[2].strip() for section in sections]
    if titles[:1] != ["[Unreleased]"] or len(titles) < 2:
        raise ReleaseError("CHANGELOG.md must begin with [Unreleased] and a version")
    if bodies[0]:
        raise ReleaseError(f"CHANGELOG.md: move what is under [Unreleased] to [{version}]")
    found = re.fullmatch(r"\[(.+)\] - (\S+)", titles[1])
    if found is None or found[1] != version:
        raise ReleaseError(f"CHANGELOG.md: expected [{version}] - YYYY-MM-DD, got {titles[1]}")
    try:
        day = date.fromisoformat(found[2])
    except ValueError:
        day = None
    if day is None or len(found[2]) != 10:
        raise ReleaseError(f"CHANGELOG.md: [{version}] has no date of the form YYYY-MM-DD")
    if not bodies[1]:
        raise ReleaseError(f"CHANGELOG.md: [{version}] is empty")


def export(root: Path, folder: Path) -> set[str]:
    """Write the files of the last commit to ``folder``; returns their names."""
    archive = folder.with_suffix(".tar")
    git(root, "archive", "--output", str(archive), "HEAD")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="tar")  # with mlxnode/kernels, a link
        return {member.name for member in files.getmembers() if member.isfile()}


def build(source: Path, kind: str, folder: Path) -> Path:
    """The sdist or wheel of ``source``, by its build backend, in a process of its own."""
    code = (
        "import sys; from setuptools import build_meta;"
        "getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"
    )
    folder.mkdir()
    command = [sys.executable, "-c", code, kind, str(folder)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if result.returncode != 0:
        raise ReleaseError(f"the {kind} cannot be built:\n{result.stdout}{result.stderr}")
    (file,) = folder.iterdir()
    return file


def build_packages(source: Path, tracked: set[str], version: str) -> list[Path]:
    """The sdist of ``source``, and the wheel of that sdist, as pip and Homebrew make it.

    Raises:
        ReleaseError: a file of the package is missing, or one has another version.
    """
    expected = {
        name
        for name in tracked
        if Path(name).suffix in PACKAGED and name.startswith(("mlxnode/", "kernels/"))
    }
    sdist = build(source, "sdist", source.parent / "sdist")
    top = f"mlxnode-{version}"
    with tarfile.open(sdist) as files:
        files.extractall(source.parent, filter="data")
        names = {name.partition("/")[2] for name in files.getnames() if name.startswith(top)}
    check_files(sdist, expected | FORMULA_FILES, names)
    wheel = build(source.parent / top, "wheel", source.parent / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    moved = {f"mlxnode/{name}" if name.startswith("kernels/") else name for name in expected}
    check_files(wheel, moved | {f"{top}.dist-info/METADATA"}, names)
    return [sdist, wheel]


def check_files(package: Path, expected: set[str], names: set[str]) -> None:
    if missing := expected - names:
        raise ReleaseError(f"{package.name} lacks {', '.join(sorted(missing))}")


def with_stable_block(formula: str, url: str, sha256: str) -> str:
    """The formula with this ``url`` and ``sha256``, in the place of earlier ones."""
    lines = [
        line
        for line in formula.splitlines(keepends=True)
        if not re.match(r'  (url|sha256) "', line)
    ]
    (homepage,) = (i for i, line in enumerate(lines) if line.startswith("  homepage "))
    lines[homepage + 1 : homepage + 1] = [f'  url "{url}"\n', f'  sha256 "{sha256}"\n']
    return "".join(lines)


def release(root: Path) -> str:
    """Build, check and write; returns what to do next.

    Raises:
        ReleaseError: there is no release; nothing was written.
    """
    check_tree(root)
    version = read_version(root)
    check_tag(root, version)
    check_changelog((root / "CHANGELOG.md").read_text(), version)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        packages = build_packages(source, export(root, source), version)
        contents = {package.name: package.read_bytes() for package in packages}
    sdist = packages[0].name
    url = f"{DOWNLOADS}/v{version}/{sdist}"
    sha256 = hashlib.sha256(contents[sdist]).hexdigest()
    (root / "dist").mkdir(exist_ok=True)
    for name, content in contents.items():
        (root / "dist" / name).write_bytes(content)
    formula = root / FORMULA
    formula.write_text(with_stable_block(formula.read_text(), url, sha256))
    files = " ".join(f"dist/{name}" for name in contents)
    return f"""built {files}
wrote the stable block of {FORMULA}: {sha256}

Nothing is published. The formula is true once its url can be fetched, so in this order:
  git tag v{version} && git push origin main v{version}
  gh release create v{version} --title v{version} --notes "See CHANGELOG.md" {files}
  take --HEAD out of README.md and docs/install.md, if it is the first release
  git commit -am "Formula: {version}" && git push"""


def main(root: Path) -> int:
    try:
        print(release(root))
    except ReleaseError as error:
        print(f"no release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parents[1]))
