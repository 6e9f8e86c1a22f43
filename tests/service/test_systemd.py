"""The systemd unit, checked by systemd where there is one, and the calls of systemctl."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.service_programs import ServicePrograms

from mlxnode.errors import ServiceError
from mlxnode.service.definition import define
from mlxnode.service.manager import manager_of
from mlxnode.service.systemd import UNIT, Systemd


@pytest.fixture
def programs(tmp_path, monkeypatch) -> ServicePrograms:
    programs = ServicePrograms(tmp_path / "programs")
    monkeypatch.setenv("PATH", programs.path)
    return programs


@pytest.fixture
def unit(tmp_path) -> Systemd:
    return Systemd(tmp_path / "a 100% $HOME" / ".config")


def definition(home: Path, **environ: str):
    return define(home / "my env/bin/python", home / "$a 5%.toml", home, 100.0, environ)


def lines_of(text: str) -> dict[str, str]:
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    return {name: value for name, value in pairs if not name.startswith("#")}


def test_systemd_unit_quotes_words_and_paths(unit, tmp_path):
    text = unit.text(definition(tmp_path, HF_HOME='/data/a "b" 5%', HF_TOKEN="secret"))
    found = lines_of(text)
    python = tmp_path / "my env/bin/python"
    assert found["ExecStart"] == (
        f'"{python}" "-P" "-m" "mlxnode" "serve" "--config" "{tmp_path}/$$a 5%%.toml"'
    )
    assert found["Environment"] == '"HF_HOME=/data/a \\"b\\" 5%%"'
    assert found["EnvironmentFile"].endswith("a 100%% $HOME/.config/mlxnode/service.env")
    assert found["TimeoutStopSec"] == "115" and found["KillMode"] == "mixed"
    assert "secret" not in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("folder", ["plain", "a $x b", 'a b %h $x "q" \\n'])
def test_systemd_takes_the_unit(tmp_path, folder):
    home = tmp_path / folder
    (home / "bin").mkdir(parents=True)
    (home / "bin/python").symlink_to(sys.executable)
    text = Systemd(home / ".config").text(
        define(home / "bin/python", home / "c.toml", home, 30.0, {"HF_HOME": str(home)})
    )
    file = tmp_path / UNIT
    file.write_text(text)
    (tmp_path / "run").mkdir(mode=0o700)
    checked = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(file)],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_systemd_start_stop_and_restart(unit, programs, tmp_path):
    with pytest.raises(ServiceError, match="run `mlxnode service install` first"):
        unit.start()
    (hint,) = unit.install(definition(tmp_path))
    assert "loginctl enable-linger" in hint
    assert unit.file.read_text() == unit.text(definition(tmp_path))
    assert unit.status().state == "stopped" and unit.status().last_exit_code == 2
    unit.start()
    status = unit.status()
    assert (status.state, status.pid, status.last_exit_code) == ("running", 4711, None)
    assert status.starts_at_login
    unit.restart()
    unit.stop()
    unit.uninstall()
    assert not unit.file.exists()
    calls = [" ".join(words[2:]) for words in programs.calls if "show" not in words]
    assert all(words[:2] == ["systemctl", "--user"] for words in programs.calls)
    assert calls == [
        *("daemon-reload", f"enable {UNIT}"),
        f"start {UNIT}",
        *("daemon-reload", f"restart {UNIT}"),
        f"stop {UNIT}",
        *(f"disable --now {UNIT}", "daemon-reload"),
    ]


def test_systemd_install_has_no_hint_for_a_user_who_stays(unit, programs, tmp_path):
    programs.set("linger")
    assert unit.install(definition(tmp_path)) == []


def test_systemd_without_a_session_says_what_to_do(unit, programs, tmp_path):
    programs.fail("systemctl", "--user", 1, "Failed to connect to bus: No medium found")
    with pytest.raises(ServiceError, match=r"connect to bus.*loginctl enable-linger"):
        unit.status()


def test_systemd_log_is_shown_with_journalctl(unit):
    command = ["journalctl", "--user", "--unit", UNIT, "--lines", "7", "--no-pager"]
    assert unit.log_command(7, follow=False) == command
    assert unit.log_command(7, follow=True) == [*command, "--follow"]


def test_manager_is_that_of_the_platform(tmp_path):
    home = tmp_path
    assert manager_of("darwin", home, {}).file.parent == home / "Library/LaunchAgents"
    assert manager_of("linux", home, {}).file.parent == home / ".config/systemd/user"
    moved = manager_of("linux", home, {"XDG_CONFIG_HOME": "/c"})
    assert moved.file == Path("/c/systemd/user") / UNIT
    with pytest.raises(ServiceError, match="no service manager of plan9"):
        manager_of("plan9", home, {})
