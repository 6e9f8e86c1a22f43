"""The declared families: their names, and that the documents have all of them."""

import re
from pathlib import Path

import pytest

from mlxnode.server.metrics import families
from mlxnode.server.metrics.families import Family

DOCUMENT = Path(__file__).parents[3] / "docs" / "monitoring.md"
ALL = [*families.COUNTED, *families.TOLD, *families.STORED]
ROW = re.compile(r"\| `(mlxnode_\w+)` \| (\w+) \| (.+) \| (.+) \|")


def row_of(family: Family) -> tuple[str, str, str, str]:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    return family.written, family.type, labels, family.help


@pytest.mark.parametrize(
    ("title", "declared"),
    [
        ("## What the workers count", families.COUNTED),
        ("## What the node tells", families.TOLD),
        ("## Files and batches", families.STORED),
    ],
)
def test_the_document_lists_the_families_as_they_are(title, declared):
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.split(title + "\n")[1].split("\n## ")[0]
    assert ROW.findall(section) == [row_of(family) for family in declared]


def test_the_document_has_the_buckets():
    text = DOCUMENT.read_text(encoding="utf-8")
    for family in ALL:
        if family.buckets:
            row = ", ".join(f"{bucket:g}" for bucket in family.buckets)
            [line] = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
            assert f"`{family.name}`" in line


def test_names_keep_the_rules_of_prometheus():
    declared = {value for value in vars(families).values() if isinstance(value, Family)}
    assert declared == set(ALL) and len({family.name for family in ALL}) == len(ALL)
    for family in ALL:
        assert re.fullmatch(r"mlxnode(_[a-z]+)+", family.name)
        assert not re.search(r"_(total|info|count|sum|bucket|created)$", family.name)
        assert (family.type == "histogram") == bool(family.buckets)
        assert sorted(family.buckets) == list(family.buckets)
        assert "le" not in family.labels
