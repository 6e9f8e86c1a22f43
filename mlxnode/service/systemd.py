"""systemd: a unit of the user, as systemd.unit(5), systemd.service(5) and systemd.exec(5)."""

import getpass
from collections.abc import Sequence
from pathlib import Path

from mlxnode.service.definition import Definition, ServiceStatus, State
from mlxnode.service.files import check_installed, write_file
from mlxnode.service.programs import attempt, run

UNIT = "mlxnode.service"
_RESTART_PAUSE = 10  # seconds, as launchd's
_STOPPING = 300.0  # seconds; systemd's own limit comes before
_STATES: dict[str, State] = {
    "active": "running",
    "activating": "starting",
    "reloading": "running",
    "deactivating": "stopping",
    "failed": "failed",
}
_PROPERTIES = "LoadState,ActiveState,SubState,MainPID,ExecMainStatus,UnitFileState"


class Systemd:
    """The unit ``~/.config/systemd/user/mlxnode.service``; ``folder`` is ``~/.config``."""

    def __init__(self, folder: Path):
        self.file = folder / "systemd" / "user" / UNIT
        self._secrets = folder / "mlxnode" / "service.env"

    def text(self, definition: Definition) -> str:
        """The unit; the decisions are those of the launchd agent."""
        variables = [
            f"Environment={_quoted(f'{name}={value}')}\n"
            for name, value in definition.environment.items()
        ]
        return f"""\
[Unit]
Description=mlxnode, an OpenAI-compatible inference server
Documentation=https://github.com/mlxnode/mlxnode
# Whatever ended it, it starts again: systemd counts no attempts.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={_command(definition.arguments)}
# Keys, limits and models are read again, and no stream ends.
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={_path(definition.folder)}
{"".join(variables)}\
# NAME=value in each line: HF_TOKEN, say. Only you may be able to read the file.
EnvironmentFile=-{_path(self._secrets)}
Restart=always
RestartSec={_RESTART_PAUSE}
# The supervisor alone gets the signal to stop; it lets running requests finish.
KillMode=mixed
TimeoutStopSec={definition.stop_timeout}
UMask=0077

[Install]
WantedBy=default.target
"""

    def install(self, definition: Definition) -> list[str]:
        """Write the unit, and enable it: it starts when the user logs in."""
        write_file(self.file, self.text(definition))
        self._call("daemon-reload")
        self._call("enable", UNIT)
        user = getpass.getuser()
        code, output, _ = attempt(["loginctl", "show-user", user, "--property=Linger"])
        if code == 0 and output.strip() == "Linger=yes":
            return []
        return [
            "the service ends when you log out; `loginctl enable-linger` lets it run from the "
            "start of the machine on"
        ]

    def uninstall(self) -> None:
        """Stop and disable the service, and remove its file."""
        check_installed(self.file)
        self._call("disable", "--now", UNIT, timeout=_STOPPING)
        self.file.unlink(missing_ok=True)
        self._call("daemon-reload")

    def start(self) -> None:
        """Start the service; nothing happens if it runs."""
        check_installed(self.file)
        self._call("start", UNIT)

    def stop(self) -> None:
        """Stop the service and wait for its end."""
        check_installed(self.file)
        self._call("stop", UNIT, timeout=_STOPPING)

    def restart(self) -> None:
        """Stop the service, if it runs, and start it as its file says now."""
        check_installed(self.file)
        self._call("daemon-reload")
        self._call("restart", UNIT, timeout=_STOPPING)

    def status(self) -> ServiceStatus:
        """From `systemctl show`."""
        output = self._call("show", UNIT, f"--property={_PROPERTIES}")
        fields: dict[str, str] = {}
        for line in output.splitlines():
            name, _, value = line.partition("=")
            fields[name] = value
        pid = int(fields.get("MainPID") or 0)
        state: State = _STATES.get(fields.get("ActiveState", ""), "stopped")
        if fields.get("LoadState") != "loaded" and not self.file.exists():
            state = "not installed"
        exit_code = fields.get("ExecMainStatus", "")
        return ServiceStatus(
            manager="systemd",
            file=self.file,
            state=state,
            pid=pid or None,
            last_exit_code=int(exit_code) if exit_code.isdigit() and not pid else None,
            starts_at_login=fields.get("UnitFileState") == "enabled",
            log=f"journalctl --user --unit {UNIT}",
        )

    def log_command(self, lines: int, *, follow: bool) -> list[str]:
        """``journalctl``."""
        command = ["journalctl", "--user", "--unit", UNIT, "--lines", str(lines), "--no-pager"]
        return [*command, "--follow"] if follow else command

    def _call(self, *arguments: str, timeout: float = 60.0) -> str:
        return run(["systemctl", "--user", *arguments], timeout=timeout)


def _command(words: Sequence[str]) -> str:
    """The value of ExecStart; systemd takes the name of the program almost as it is."""
    program, *arguments = words
    if any(letter in program for letter in "'\"\\"):  # systemd refuses such a name
        return _command(["/usr/bin/env", *words])
    quoted = (_quoted(word, is_command=True) for word in arguments)
    return " ".join([_quoted(program), *quoted])


def _quoted(word: str, *, is_command: bool = False) -> str:
    """``word`` as one word of a unit's line: % and, in a command, $ have a meaning there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("\n", "\\n")
    return f'"{escaped.replace("$", "$$") if is_command else escaped}"'


def _path(path: Path) -> str:
    """A path that is the whole value of a line, where quotes have no meaning."""
    return str(path).replace("%", "%%")
