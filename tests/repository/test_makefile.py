"""The Makefile and its scripts keep to macOS: make 3.81, POSIX's sh, BSD's commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.mac_tools import make_problems, shell_problems
from support.tools import require_program

ROOT = Path(__file__).parents[2]
MAKEFILE = ROOT / "Makefile"
TEXT = MAKEFILE.read_text()
SCRIPTS = sorted((ROOT / ".ci").glob("*.sh"))
# macOS has the original awk.
AWKS = ["awk"] if sys.platform == "darwin" else ["awk", "original-awk"]
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


def targets() -> dict[str, str]:
    """The targets that have a description."""
    return dict(re.findall(r"(?m)^([\w-]+):.*?##\s*(.*)$", TEXT))


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- what make and the shell understand ---------------------------------------------------


def test_makefile_is_one_for_make_3_81():
    assert make_problems(TEXT) == []


@pytest.mark.parametrize(
    "line",
    [
        ".ONESHELL:",
        ".RECIPEPREFIX = >",
        ".SHELLFLAGS = -ec",
        "VENV ::= .venv",
        "VENV :::= .venv",
        "VERSION != git describe",
        "VERSION!=git describe",
        "undefine VENV",
        "private VENV := x",
        "serve: private VENV := x",
        "serve test: export private VENV := x",
        "define CODE =",
        "override define CODE :=",
        "$(file >build/x,text)",
        "X := $(intcmp 1,2,a)",
        "X = $(let a b,1 2,$(a))",
        "X = $(guile (+ 1 2))",
        "a b &: c",
        "a b&: c",
        "a b &:: c",
        "all: a .WAIT b",
        ".EXTRA_PREREQS := x",
        "serve: .EXTRA_PREREQS = x",
        ".NOTINTERMEDIATE: x",
        "load x.so",
        "-load x.so",
        "X := $(.SHELLSTATUS)",
        "ifdef MAKE_TERMOUT",
        "X := $(shell grep '#' file)",
        "X := $(shell \\\n\tgrep '#' file)",
        "serve:\n\tcommand -v python3",
        "serve:\n\t@ulimit -n 256",
    ],
)
def test_makefile_with_a_newer_feature_is_found(line):
    assert make_problems(f"{TEXT}\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "A := 1",
        "A ?= $(if $(B),1,2)",
        "%.o: %.c | build",
        "ifneq ($(A),1)",
        "serve:: a",
        "serve: A := 1",
        "define CODE",
        "# undefine and != and &: are in a comment",
        "\ttest 1 != 2 && command -v x",
        "\t@command -v x >/dev/null",
        "export A",
        "X := $(shell grep '\\#' file)",
    ],
)
def test_makefile_of_3_81_is_no_problem(line):
    assert make_problems(f"{TEXT}\n{line}\n") == []


def recipes() -> str:
    """The commands of all targets, as make would hand them to the shell."""
    result = make("--dry-run", "--always-make", "VENV=/nowhere", "PYTHON=python3", *targets())
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_recipes_are_shell_code_for_a_mac():
    text = recipes()
    assert "machine.sh" in text and "pip install" in text
    assert shell_problems(text, is_posix=True) == []
    for shell in SHELLS:
        result = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


def test_variables_of_the_shell_are_shell_code_for_a_mac():
    assert shell_problems(TEXT, is_posix=True) == []


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda script: script.name)
def test_scripts_are_shell_code_for_a_mac(script):
    text = script.read_text()
    is_posix = text.startswith("#!/bin/sh\n")
    assert is_posix or text.startswith("#!/usr/bin/env bash\n")
    assert shell_problems(text, is_posix=is_posix) == []
    for shell in SHELLS if is_posix else ["bash"]:
        assert subprocess.run([shell, "-n", str(script)]).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        "sed -r 's/a+/b/' file",
        "sed -i 's/a/b/' file",
        "sed 's/:/\\t/' file",
        "grep -oP 'a' file",
        "grep 'a\\|b' file",
        "ls | xargs -r rm",
        "date -d yesterday",
        "date +%s%N",
        "readlink -f file",
        "realpath file",
        "stat -c %s file",
        "sort -V file",
        "find . -printf '%p'",
        "head -n -1 file",
        "mktemp --tmpdir",
        "ln -sr a b",
        "install -Dm755 a b",
        "cp --parents a b",
        "sha256sum file",
        "base64 -w0 file",
        "timeout 5 make",
        "make -j$(nproc)",
        "echo -e 'a\\tb'",
        "mapfile -t lines",
        "declare -A table",
        "echo ${name,,}",
        "wait -n",
        "[[ a = b ]]",
        "cat <<< text",
        "diff <(a) <(b)",
        "run &> log",
        "set -o pipefail",
        "echo $'a'",
    ],
)
def test_shell_code_of_other_systems_is_found(line):
    assert shell_problems(f"set -eu\n{line}\n", is_posix=True)


# --- make help ----------------------------------------------------------------------------


@pytest.mark.parametrize("awk", AWKS)
def test_help_lists_every_target(awk, tmp_path):
    (tmp_path / "awk").symlink_to(require_program(awk))
    result = make("help", PATH=f"{tmp_path}:{os.environ['PATH']}")
    expected = [f"{name:<16}{text}" for name, text in targets().items()]
    assert result.stdout.splitlines() == expected and result.stderr == ""
    assert {"help", "serve", "test", "lint", "release", "clean"} <= set(targets())


def test_every_target_without_a_file_is_phony():
    names = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)[1]
    assert set(names.replace("\\", "").split()) == set(targets())
