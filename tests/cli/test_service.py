"""``mlxnode service`` as a process, with programs of the system that record their calls."""

import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest
from macbox.box import environment
from support.service_programs import ServicePrograms

from mlxnode.service.launchd import LABEL

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path) -> Path:
    folder = tmp_path / "my home"
    folder.mkdir()
    (folder / "config.toml").write_text(
        "[api]\nrequire_auth = false\n[server]\ndrain_timeout = 90.0\n"
    )
    return folder


@pytest.fixture
def run(tmp_path, home):
    programs = ServicePrograms(tmp_path / "programs")

    def run(*arguments: str, mac: bool = False, **environ: str):
        start = environment("small") if mac else dict(os.environ)
        start.pop("XDG_CONFIG_HOME", None)
        start["PATH"] = f"{programs.bin}{os.pathsep}{start['PATH']}"
        return subprocess.run(
            [sys.executable, "-m", "mlxnode", "service", *arguments],
            env=start | {"HOME": str(home)} | environ,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=100,
        )

    run.programs = programs
    return run


def test_service_of_systemd_from_install_to_uninstall(run, home):
    config = home / "config.toml"
    unit = home / ".config/systemd/user/mlxnode.service"
    shown = run("install", "--print")
    assert shown.returncode == 0 and not unit.exists() and run.programs.calls == []
    assert run("start").stderr.count("mlxnode service install") == 1

    done = run("install", "--now", "--json", HF_TOKEN="secret", HF_HOME="/data/hf")
    found = json.loads(done.stdout)
    assert (done.returncode, found["is_started"], found["file"]) == (0, True, str(unit))
    text = unit.read_text()
    assert f'"serve" "--config" "{config}"' in text and "TimeoutStopSec=105" in text
    assert 'Environment="HF_HOME=/data/hf"' in text and "secret" not in text
    assert any("HF_TOKEN: the service does not see" in hint for hint in found["hints"])

    status = run("status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["state"] == "running"
    assert run("logs", "--json", "-n", "3").stdout.count("a line of the log") == 1
    assert run("logs", "-n", "3").stdout == "a line of the log\n"
    assert run("logs", "-f", "--json").returncode == 2
    stopped = run("stop")
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    assert run("status").returncode == 1
    assert run("uninstall").stdout == f"removed {unit}\n"
    assert not unit.exists()


def test_service_of_launchd_from_install_to_uninstall(run, home):
    plist = home / f"Library/LaunchAgents/{LABEL}.plist"
    log = home / "Library/Logs/mlxnode/mlxnode.log"
    done = run("install", "--now", "--config", "config.toml", mac=True)
    assert (done.returncode, done.stdout) == (0, f"wrote {plist}\nstarted\n"), done.stderr
    found = plistlib.loads(plist.read_bytes())
    assert found["ProgramArguments"] == [
        *(sys.executable, "-P", "-m", "mlxnode", "serve", "--config"),
        str(home / "config.toml"),
    ]
    assert found["ExitTimeOut"] == 105
    status = run("status", mac=True)
    assert status.returncode == 0 and "running (pid 4711)" in status.stdout
    log.write_text("one\ntwo\nthree\n")
    assert run("logs", "-n", "2", mac=True).stdout == "two\nthree\n"
    assert run("restart", mac=True).returncode == 0
    assert run("uninstall", mac=True).returncode == 0
    verbs = [call[1] for call in run.programs.calls]
    assert verbs == ["enable", "bootstrap", "bootout", "enable", "bootstrap", "bootout"]


def test_service_leaves_the_port_to_homebrews(run, home):
    file = home / "Library/LaunchAgents/homebrew.mxcl.mlxnode.plist"
    file.parent.mkdir(parents=True)
    file.touch()
    refused = run("install", mac=True)
    assert refused.returncode == 1
    assert "`brew services restart mlxnode`" in refused.stderr
    assert run("install", "--force", mac=True).returncode == 0


def test_service_of_a_wrong_configuration_is_not_written(run, home):
    (home / "config.toml").write_text("[api]\nadress = 1\n")
    refused = run("install", "--now")
    assert refused.returncode == 2 and "did you mean address?" in refused.stderr
    assert not (home / ".config").exists() and run.programs.calls == []


@pytest.mark.long
def test_service_runs_the_command_of_the_unit(run, home, tmp_path):
    """The words of the file start a node, from any folder."""
    folder = tmp_path / "elsewhere"
    (folder / "mlxnode").mkdir(parents=True)  # no package
    (folder / "mlxnode" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    run("install", mac=True)
    plist = plistlib.loads((home / f"Library/LaunchAgents/{LABEL}.plist").read_bytes())
    words = plist["ProgramArguments"]
    words[words.index("serve")] = "check"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=100)
    assert "the wrong package" not in done.stderr
    assert "config.toml" in done.stdout + done.stderr
