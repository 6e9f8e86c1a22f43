"""The documents name files and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(
    r"`((?:mlxnode|kernels|tests|benchmarks|docs)(?:/[\w.-]+)+/?)`|\]\(([\w./-]+)\)"
)
TEST = re.compile(r"`(test_\w+)`")
NOT_OURS = {"mlxnode/mlxnode"}  # the address of the repository


def named(document: Path, pattern: re.Pattern[str]) -> set[str]:
    found = pattern.findall(document.read_text(encoding="utf-8"))
    return {
        part
        for groups in found
        for part in ((groups,) if isinstance(groups, str) else groups)
        if part
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_named_paths_exist(document):
    missing = {
        path
        for path in named(document, PATH) - NOT_OURS
        if not (ROOT / path).exists() and not (document.parent / path).exists()
    }
    assert not missing


def test_named_tests_exist():
    tests = "\n".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")
    )
    known = set(re.findall(r"def (test_\w+)\(", tests))
    for document in DOCUMENTS:
        assert named(document, TEST) <= known, document.name


def test_paths_of_the_trace_exist():
    """The trace names files of one room without their folder."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {file.name for file in (ROOT / "mlxnode").rglob("*.py")}
    files |= {file.name for file in (ROOT / "kernels").iterdir()}
    for name in re.findall(r"`(\w+\.py)`", text):
        assert name in files, name
