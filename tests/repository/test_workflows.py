"""The workflows of CI: their shell code, and the targets that they make."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from support.mac_tools import shell_problems
from support.tools import require_program

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TO_JSON = "puts JSON.generate(YAML.load_file(ARGV[0]))"


@pytest.fixture(params=WORKFLOWS, ids=lambda file: file.stem)
def jobs(request) -> dict:
    command = [require_program("ruby"), "-ryaml", "-rjson", "-e", TO_JSON, str(request.param)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["jobs"]


def code_of(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_workflow_is_shell_code_for_its_system(jobs):
    for job in jobs.values():
        for code in code_of(job):
            subprocess.run(["bash", "-n"], input=code, check=True, text=True)
            if job["runs-on"].startswith("macos"):
                assert shell_problems(code, is_posix=False) == []


def test_workflow_makes_targets_that_exist(jobs):
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
    made = {
        target
        for job in jobs.values()
        for code in code_of(job)
        for target in re.findall(r"(?m)^\s*make ([\w-]+)", code)
    }
    assert made <= targets


def test_workflow_ends_in_bounded_time(jobs):
    assert all(0 < job["timeout-minutes"] <= 60 for job in jobs.values())


def test_formula_is_installed_tested_and_served_on_a_mac():
    """What no other machine can show of the formula."""
    text = (ROOT / ".github/workflows/macos.yml").read_text()
    job = text[text.index("\n  homebrew:") :]
    for command in (
        "brew audit --strict",
        "brew install --HEAD",
        "brew test",
        "brew services start mlxnode",
        "/v1/chat/completions",
        "brew services stop mlxnode",
    ):
        assert command in job


def test_brewfile_names_what_no_mac_has():
    entries = re.findall(r'(?m)^(\w+) "([^"]+)"', (ROOT / "Brewfile").read_text())
    assert entries == [("brew", "python@3.13"), ("brew", "node")]
