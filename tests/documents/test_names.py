"""The documents name files and tests that exist."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PATH = re.compile(
    r"`((?:mlxnode|kernels|tests|benchmarks|docs)(?:/[\w.-]+)+/?)`|\]\(([\w./-]+)\)"
)
TEST = re.compile(r"`(test_\w+)`")
# Fixtures of the folders whose conftest.py has a parameter for GPUs, and those that need them.
ON_GPUS = {"is_metal", "sample", "pool", "gpu", "model", "kernels"}
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


def test_each_row_of_the_compatibility_names_its_test():
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.endswith("| test |")]
    assert rows and all(re.search(r"\| `test_\w+` \|$", row) for row in rows)


def test_paths_of_the_trace_exist():
    """The trace names files of one room without their folder."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {file.name for file in (ROOT / "mlxnode").rglob("*.py")}
    files |= {file.name for file in (ROOT / "kernels").iterdir()}
    for name in re.findall(r"`(\w+\.py)`", text):
        assert name in files, name


def test_tests_that_only_a_mac_can_show_are_marked_metal():
    """The last column of the table of docs/macos.md names them."""
    text = (ROOT / "docs" / "macos.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    claimed = {name for row in rows if len(row) == 3 for name in TEST.findall(row[2])}
    assert claimed and claimed <= metal_tests()


@functools.cache
def metal_tests() -> set[str]:
    """The tests that are marked ``metal``, or have a fixture with such a parameter."""
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        conftest = file.with_name("conftest.py")
        has_gpu = conftest.exists() and "mark.metal" in conftest.read_text(encoding="utf-8")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                fixtures = {argument.arg for argument in node.args.args}
                marks = [ast.unparse(decorator) for decorator in node.decorator_list]
                if "pytest.mark.metal" in marks or (has_gpu and fixtures & ON_GPUS):
                    found.add(node.name)
    return found
