"""The launchd agent, and the calls of launchctl."""

import os
import plistlib
from pathlib import Path

import pytest
from support.service_programs import ServicePrograms

from mlxnode.errors import ServiceError
from mlxnode.service import launchd
from mlxnode.service.definition import define
from mlxnode.service.launchd import LABEL, Launchd

# Keys of launchd.plist(5), of which mlxnode uses some, with the type of each value.
KNOWN = {
    "Label": str,
    "ProgramArguments": list,
    "WorkingDirectory": str,
    "RunAtLoad": bool,
    "KeepAlive": bool,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "EnvironmentVariables": dict,
}
DOMAIN = f"gui/{os.getuid()}"
TARGET = f"{DOMAIN}/{LABEL}"


@pytest.fixture
def programs(tmp_path, monkeypatch) -> ServicePrograms:
    programs = ServicePrograms(tmp_path / "programs")
    monkeypatch.setenv("PATH", programs.path)
    monkeypatch.setattr(launchd, "_INTERVAL", 0.01)
    return programs


@pytest.fixture
def agent(tmp_path) -> Launchd:
    return Launchd(tmp_path / "a home")


def definition(home: Path, **environ: str):
    python = home / "my env/bin/python"
    return define(python, home / "a b/my <config>.toml", home, 100.0, environ)


def test_launchd_plist_has_the_keys_that_launchd_knows(agent, tmp_path):
    found = plistlib.loads(
        agent.text(definition(tmp_path, HF_HOME="/Volumes/a b", HF_TOKEN="secret")).encode()
    )
    assert {key: type(value) for key, value in found.items()} == KNOWN
    assert found["ProgramArguments"] == [
        str(tmp_path / "my env/bin/python"),
        *("-P", "-m", "mlxnode", "serve", "--config"),
        str(tmp_path / "a b/my <config>.toml"),
    ]
    assert found["EnvironmentVariables"] == {"HF_HOME": "/Volumes/a b"}  # and no secret
    assert found["ExitTimeOut"] == 115 and found["ThrottleInterval"] == 10
    assert (found["KeepAlive"], found["ProcessType"], found["Umask"]) == (
        True,
        "Interactive",
        0o077,
    )


def test_launchd_plist_leaves_the_time_of_the_formula(tmp_path, agent):
    short = define(Path("/python"), None, tmp_path, 5.0, {})
    found = plistlib.loads(agent.text(short).encode())
    assert found["ExitTimeOut"] == 45
    assert found["ProgramArguments"][-1] == "serve"
    assert "EnvironmentVariables" not in found


def test_launchd_start_stop_and_restart(agent, programs, tmp_path):
    with pytest.raises(ServiceError, match="run `mlxnode service install` first"):
        agent.start()
    assert agent.status().state == "not installed"
    assert agent.install(definition(tmp_path)) == []
    assert agent.file.stat().st_mode & 0o777 == 0o644
    assert agent.log.parent.is_dir() and programs.calls == []
    assert (agent.status().state, agent.status().starts_at_login) == ("stopped", True)

    agent.start()
    status = agent.status()
    assert (status.state, status.pid, status.last_exit_code) == ("running", 4711, 2)
    agent.start()  # it is loaded
    agent.restart()
    agent.stop()
    agent.stop()  # nothing to stop
    assert agent.status().state == "stopped"
    enable = ["launchctl", "enable", TARGET]
    bootstrap = ["launchctl", "bootstrap", DOMAIN, str(agent.file)]
    bootout = ["launchctl", "bootout", TARGET]
    assert programs.calls == [
        *(enable, bootstrap),
        *(enable, ["launchctl", "kickstart", TARGET]),
        *(bootout, enable, bootstrap),
        bootout,
    ]


def test_launchd_stop_waits_for_the_end_of_the_process(agent, programs, tmp_path):
    agent.install(definition(tmp_path))
    agent.start()
    programs.set("slow")  # launchctl answers 36: Operation now in progress
    agent.stop()
    assert agent.status().state == "stopped"


def test_launchd_uninstall_stops_and_removes(agent, programs, tmp_path):
    agent.install(definition(tmp_path))
    agent.start()
    agent.uninstall()
    assert programs.calls[-1] == ["launchctl", "bootout", TARGET]
    assert not agent.file.exists()
    with pytest.raises(ServiceError, match="install"):
        agent.uninstall()


def test_launchd_errors_have_the_words_of_launchctl(agent, programs, tmp_path):
    agent.install(definition(tmp_path))
    said = "Bootstrap failed: 125: Domain does not support specified action"
    programs.fail("launchctl", "bootstrap", 125, said)
    with pytest.raises(ServiceError, match=r"125: Domain does not.*log in at the screen"):
        agent.start()


def test_launchd_log_is_shown_with_tail(agent, programs, tmp_path):
    with pytest.raises(ServiceError, match="there is no log yet"):
        agent.log_command(5, follow=False)
    agent.install(definition(tmp_path))
    agent.log.touch()
    assert agent.log_command(5, follow=False) == ["tail", "-n", "5", str(agent.log)]
    assert agent.log_command(5, follow=True) == ["tail", "-n", "5", "-F", str(agent.log)]


def test_launchd_without_launchctl_says_so(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    agent.install(definition(tmp_path))
    with pytest.raises(ServiceError, match="no program launchctl on this machine"):
        agent.start()
