"""CHANGELOG.md, in the form of https://keepachangelog.com."""

import re
import runpy
from pathlib import Path

from mlxnode import __version__

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CHANGELOG.md").read_text()
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_changelog_begins_with_unreleased_then_this_version():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])


def test_changelog_has_only_the_kinds_of_the_form():
    assert set(re.findall(r"^### (.+)$", TEXT, re.MULTILINE)) <= KINDS


def test_version_is_written_once():
    """The package, the OpenAPI document and the commands take it from there."""
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    formula = (ROOT / "Formula" / "mlxnode.rb").read_text()
    urls = re.findall(r'(?m)^  url ".*/v(\d+\.\d+\.\d+)/', formula)
    assert set(urls) <= {__version__}


def test_release_script_takes_this_changelog():
    """Nothing is unreleased, or it says so: the script refuses for no other reason."""
    script = runpy.run_path(str(ROOT / ".ci" / "release.py"))
    unreleased = TEXT[TEXT.index("## [Unreleased]") : TEXT.index(f"## [{__version__}]")]
    assert script["read_version"](ROOT) == __version__
    script["check_changelog"](TEXT.replace(unreleased, "## [Unreleased]\n\n"), __version__)
