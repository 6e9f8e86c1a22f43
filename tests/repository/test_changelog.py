"""CHANGELOG.md, in the form of https://keepachangelog.com."""

import re
from pathlib import Path

from mlxnode import __version__

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_changelog_begins_with_unreleased_then_this_version():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])


def test_changelog_has_only_the_kinds_of_the_form():
    assert set(re.findall(r"^### (.+)$", TEXT, re.MULTILINE)) <= KINDS
