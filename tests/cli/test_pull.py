"""``mlxnode pull`` as a process, against a hub on this machine."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import tiny
from support.fake_hub import GATED, FakeHub, Trouble, fake_hub

pytestmark = pytest.mark.slow
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), layers=8, hidden=128)


@pytest.fixture
def hub(model) -> FakeHub:
    with fake_hub() as hub:
        hub.add("org/name", model)
        yield hub


@pytest.fixture
def command(hub: FakeHub, tmp_path):
    """The start of a command line and its environment."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "MLXNODE_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HOME": str(tmp_path),
    }
    return [sys.executable, "-m", "mlxnode"], environment


@pytest.fixture
def run(command, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        start, environment = command
        return subprocess.run(
            [*start, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def test_pull_shows_size_and_verdict_and_fetches_once(run, hub: FakeHub, tmp_path):
    before = run("pull", "org/name", "--dry-run")
    assert before.returncode == 0 and "would be fetched to" in before.stdout
    assert "org/name at main (aaaaaaaaaaaa)" in before.stderr
    assert "free on the disk" in before.stderr and "fits: 32 rows of" in before.stderr
    assert not (tmp_path / "hf/hub").exists()

    fetched = run("pull", "org/name")
    folder = tmp_path / "hf/hub/models--org--name/snapshots" / ("a" * 40)
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.startswith(f"fetched: {folder}\n")
    assert (folder / WEIGHTS).exists()

    asked = len(hub.ranges(WEIGHTS))
    again = run("pull", "org/name", "--json")
    found = json.loads(again.stdout)
    assert (again.returncode, found["outcome"]) == (0, "already here")
    assert (found["path"], found["missing_bytes"]) == (str(folder), 0)
    assert len(hub.ranges(WEIGHTS)) == asked


@pytest.mark.long
def test_pull_of_a_model_that_does_not_fit_needs_a_yes(run, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("[api]\nrequire_auth = false\n[engine]\nmemory_gb = 0.001\n")
    refused = run("pull", "org/name", "--config", str(config), "--json")
    assert refused.returncode == 1
    assert "does not fit" in refused.stderr
    assert "--yes fetches it nevertheless" in json.loads(refused.stdout)["error"]
    assert not (tmp_path / "hf/hub").exists()
    taken = run("pull", "org/name", "--config", str(config), "--json", "--yes")
    found = json.loads(taken.stdout)
    assert (taken.returncode, found["outcome"], found["fits"]) == (0, "fetched", False)


def test_pull_asks_in_a_terminal(command, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("[api]\nrequire_auth = false\n[engine]\nmemory_gb = 0.001\n")
    start, environment = command
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*start, "pull", "org/name", "--config", str(config)],
        env=environment,
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        text = read_until(ours, "nevertheless? [y/N]: ")
        assert "does not fit" in text
        os.write(ours, b"n\n")
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not (tmp_path / "hf/hub").exists()


def read_until(terminal: int, text: str) -> str:
    found = ""
    while text not in found:
        try:
            found += os.read(terminal, 4096).decode()
        except OSError:  # the process has ended
            break
    assert text in found, found
    return found


@pytest.mark.long
def test_pull_draws_one_bar_in_a_terminal(command, tmp_path):
    start, environment = command
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*start, "pull", "org/name"],
        env=environment | {"TERM": "xterm", "COLUMNS": "100"},
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        text = read_until(ours, "serve org/name")
        assert "fetching org/name" in text and "━" in text and "MB" in text
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.long
def test_pull_that_is_interrupted_goes_on_later(command, run, hub: FakeHub, model, tmp_path):
    size = (model / WEIGHTS).stat().st_size
    start, environment = command
    trouble = hub.troubles[WEIGHTS] = Trouble(after=300_000, hold=threading.Event())
    process = subprocess.Popen(
        [*start, "pull", "org/name"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert trouble.is_held.wait(60)
        partial = wait_for_bytes(tmp_path / "hf/hub/models--org--name/blobs", 300_000)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert partial.stat().st_size >= 300_000 and size > 300_000

    trouble.hold.set()
    hub.troubles.clear()
    again = run("pull", "org/name")
    assert again.returncode == 0 and "of them are here" in again.stderr
    assert hub.ranges(WEIGHTS)[-1] == "bytes=300000-"


def wait_for_bytes(folder: Path, size: int) -> Path:
    """The partial file, as soon as it has ``size`` bytes."""
    turn = threading.Event()
    for _ in range(600):
        for file in folder.glob("*.incomplete"):
            if file.stat().st_size >= size:
                return file
        turn.wait(0.05)
    raise AssertionError(f"no partial file of {size} bytes in {folder}")


def test_pull_fails_in_one_line(run, hub: FakeHub):
    cases = {
        ("org/none",): "no such repository, or it is private",
        ("org/name", "--revision", "v2"): "no revision 'v2'",
        ("nonsense",): "no repository of the hub",
        ("org/name", "--include", "*.gguf"): "has no file *.gguf; it has config.json",
    }
    for arguments, reason in cases.items():
        failed = run("pull", *arguments)
        assert failed.returncode == 1 and failed.stdout == ""
        assert reason in failed.stderr and failed.stderr.count("\n") == 1
    hub.repositories["org/name"].refuse_files = GATED
    for arguments in (("--dry-run",), ("--yes",)):
        failed = run("pull", "org/name", *arguments)
        assert failed.returncode == 1 and failed.stdout == ""
        assert failed.stderr.splitlines()[-1].startswith(
            "mlxnode: org/name: the model is gated"
        )


def test_pull_without_a_network_says_so(command, tmp_path):
    start, environment = command
    failed = subprocess.run(
        [*start, "pull", "org/name", "--json"],
        env=environment | {"HF_ENDPOINT": "http://127.0.0.1:9"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert failed.returncode == 1
    assert "check the network" in json.loads(failed.stdout)["error"]
    assert failed.stderr.count("\n") == 1
