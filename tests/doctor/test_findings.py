"""What a report must not contain, and how findings are shown."""

from pathlib import Path

import pytest

from mlxnode.doctor.findings import Finding, Section, without_names
from mlxnode.doctor.render import as_markdown, as_text


@pytest.fixture
def user(monkeypatch):
    """A user called ann, whose home is on a Mac."""
    monkeypatch.setattr(Path, "home", lambda: Path("/Users/ann"))
    monkeypatch.setattr("getpass.getuser", lambda: "ann")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/Users/ann/models/a", "~/models/a"),
        ("at /Users/ann, and more", "at ~, and more"),
        ("/Users/annabel/models", "/Users/…/models"),
        ("/Users/bob/x", "/Users/…/x"),
        ("/home/ann/x: error", "/home/…/x: error"),
        ("/Users/Shared/models", "/Users/Shared/models"),
        ("/Volumes/ann/models", "/Volumes/…/models"),
        ("/opt/homebrew/bin/python3", "/opt/homebrew/bin/python3"),
        ("annotate the planner", "annotate the planner"),
    ],
)
def test_without_names_shortens_paths_alone(user, text, short):
    assert without_names(text) == short


def test_without_names_keeps_a_root_home(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert without_names("/etc/x") == "/etc/x"


SECTIONS = [
    Section(
        "One",
        [
            Finding("a", "ok", "fine", "never shown in the list"),
            Finding("b", "fail", "first line\nsecond | line", "do this"),
        ],
    ),
    Section("Two", table=[["x", "y"], ["1", "2"]], log="line at /Users/ann/x\n\nend"),
]


def test_text_has_a_line_for_each_finding_and_the_advice_of_bad_ones(user):
    lines = as_text(SECTIONS).splitlines()
    assert lines[:3] == ["One", "  ok    a: fine", "  FAIL  b: first line"]
    assert "        -> do this" in lines
    assert "never shown" not in "".join(lines)


def test_markdown_has_tables_and_logs(user):
    text = as_markdown("report", SECTIONS)
    assert "| fail | b | first line<br>second \\| line | do this |" in text
    assert "| x | y |\n|---|---|\n| 1 | 2 |" in text
    assert "    line at ~/x\n\n    end" in text
