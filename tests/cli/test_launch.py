"""``mlxnode launch`` with programs that stand for the agents."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.fake_api import FakeApi

from mlxnode.cli.launch import NAMES
from mlxnode.launch.agents import AGENTS

pytestmark = pytest.mark.slow

KEY = "sk-launch-0123456789"
AGENT = """#!/bin/sh
trap 'echo ended; exit 7' TERM
echo "started $(ls "$TMPDIR")"
case "$*" in *wait) while :; do sleep 0.1; done ;; esac
exit 5
"""


@pytest.fixture
def api():
    with FakeApi(key=KEY) as server:
        yield server


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with settings of every agent."""
    for name in (".codex/config.toml", ".claude/settings.json", ".qwen/settings.json"):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True)
        file.write_text("the user's own")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path / "home"


def state_of(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def command(api: FakeApi, name: str, *arguments: str) -> list[str]:
    launch = [sys.executable, "-m", "mlxnode", "launch", name, "--url", api.url]
    return [*launch, "--api-key", KEY, *arguments]


def surroundings(home: Path) -> dict[str, str]:
    own = {"HOME": str(home), "TMPDIR": str(home.parent / "tmp")}
    return {**os.environ, **own, "PATH": f"{home.parent / 'bin'}:/usr/bin:/bin"}


def install(home: Path, name: str) -> None:
    program = home.parent / "bin" / name
    program.write_text(AGENT)
    program.chmod(0o755)


def test_names_are_those_of_the_agents():
    assert list(NAMES) == list(AGENTS)


@pytest.mark.parametrize("name", NAMES)
def test_launch_changes_no_file_and_gives_the_exit_code(api, home, name):
    install(home, name)
    before = state_of(home)
    ended = subprocess.run(
        command(api, name, "--", "hello"),
        env=surroundings(home),
        cwd=home.parent / "bin",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (5, "")
    has_files = name in ("qwen", "aider", "cline")
    assert ("mlxnode-launch-" in ended.stdout) is has_files
    assert state_of(home) == before and list((home.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["codex", "cline"])
def test_signals_reach_the_agent_and_its_files_go(api, home, name):
    install(home, name)
    with subprocess.Popen(
        command(api, name, "--", "wait"),
        env=surroundings(home),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "started" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        guard = threading.Timer(30, process.kill)
        guard.start()
        assert process.stdout.read() == "ended\n"
        assert process.wait() == 7
        guard.cancel()
    assert list((home.parent / "tmp").iterdir()) == []


def test_print_starts_nothing_and_hides_the_key(api, home):
    run = {"env": surroundings(home), "capture_output": True, "text": True, "timeout": 60}
    before = state_of(home)
    hidden = subprocess.run(command(api, "claude", "--print"), **run)
    assert hidden.returncode == 0 and KEY not in hidden.stdout
    assert "export ANTHROPIC_AUTH_TOKEN=sk-...6789" in hidden.stdout
    shown = subprocess.run(command(api, "cline", "--print", "--show-key", "--json"), **run)
    told = json.loads(shown.stdout)
    assert KEY in told["files"]["providers.json"] and told["model"] == "fake"
    assert state_of(home) == before and list((home.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["codex"], 1, "no codex in $PATH; install it with `npm install -g @openai/codex`"),
        (["codex", "--print", "--model", "nope"], 1, "no model nope; it has fake"),
        (["emacs"], 2, "'emacs' is not one of"),
        (["codex", "--show-key"], 2, "--show-key needs --print"),
    ],
)
def test_launch_says_why_it_cannot(api, home, arguments, code, text):
    ended = subprocess.run(
        command(api, *arguments),
        env=surroundings(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (code, "") and text in ended.stderr


def test_launch_without_a_node_says_so(home):
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "mlxnode",
            "launch",
            "codex",
            "--print",
            "--url",
            "http://127.0.0.1:9",
        ],
        env=surroundings(home),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1 and "no node answers at http://127.0.0.1:9" in ended.stderr
