"""``mlxnode init`` as a process."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess:
    environment = {name: os.environ[name] for name in os.environ if "MLXNODE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "mlxnode", *arguments],
        env=environment | {"HOME": str(home)} | environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )


def key_in(file: Path) -> str:
    found = re.search(r'^api_key = "(sk-[\w-]{43})"', file.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_init_writes_the_file_that_the_commands_find(tmp_path):
    file = tmp_path / ".config/mlxnode/config.toml"
    first = run(tmp_path, "init")
    assert first.returncode == 0
    assert first.stdout.splitlines()[0] == f"wrote {file}"
    assert first.stdout.splitlines()[1].endswith(" serve")  # without --config
    assert file.stat().st_mode & 0o777 == 0o600
    key = key_in(file)
    assert key not in first.stdout + first.stderr  # which may go to a log
    assert run(tmp_path, "key").stdout == f"{key}\n"

    again = run(tmp_path, "init", "--json")
    assert again.returncode == 2
    assert json.loads(again.stdout)["error"] == f"{file} exists; --force replaces it"
    assert key_in(file) == key
    forced = run(tmp_path, "init", "--force", "--json")
    assert json.loads(forced.stdout) == {"file": str(file)}
    assert key_in(file) != key


def test_init_writes_where_it_is_told(tmp_path):
    done = run(tmp_path, "init", "--config", "a b/my.toml", "--address", "0.0.0.0:9000")
    file = tmp_path / "a b" / "my.toml"
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].endswith(f" serve --config '{file}'")
    assert 'address = "0.0.0.0:9000"' in file.read_text()
    named = run(tmp_path, "init", MLXNODE_CONFIG=str(tmp_path / "named.toml"))
    assert named.stdout.startswith(f"wrote {tmp_path}/named.toml\n")
    wrong = run(tmp_path, "init", "--config", "x.toml", "--address", "here")
    assert wrong.returncode == 2 and 'expected "host:port"' in wrong.stderr
    assert not (tmp_path / "x.toml").exists()


def test_init_shows_the_key_once_in_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlxnode", "init", "--config", "c.toml"],
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        text = ""
        while True:
            try:
                part = os.read(ours, 4096).decode()
            except OSError:  # the process has ended
                break
            if not part:
                break
            text += part
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert text.count(key_in(tmp_path / "c.toml")) == 1
