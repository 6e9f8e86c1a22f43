"""launchd: an agent of the user, as `man launchd.plist` and `man launchctl` describe it."""

import os
import plistlib
import re
import time
from pathlib import Path

from mlxnode.errors import ServiceError
from mlxnode.service.definition import Definition, ServiceStatus, State
from mlxnode.service.files import check_installed, write_file
from mlxnode.service.programs import attempt, run

LABEL = "io.github.mlxnode"
_INTERVAL = 0.2  # seconds between two looks at a service that ends
_SPARE = 15  # seconds after launchd's own limit
_THROTTLE = 10  # seconds from a start to the next one, at the least
_FIELD = re.compile(r"^\t(state|pid|last exit code) = (.*)$", re.MULTILINE)


class Launchd:
    """The agent ``~/Library/LaunchAgents/io.github.mlxnode.plist``."""

    def __init__(self, home: Path):
        self.file = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.log = home / "Library" / "Logs" / "mlxnode" / "mlxnode.log"
        self._domain = f"gui/{os.getuid()}"
        self._target = f"{self._domain}/{LABEL}"

    def text(self, definition: Definition) -> str:
        """The property list; the decisions are those of the service in Homebrew's formula."""
        contents: dict[str, object] = {
            "Label": LABEL,
            "ProgramArguments": list(definition.arguments),
            "WorkingDirectory": str(definition.folder),
            "RunAtLoad": True,
            # Whatever ended it: a disk that is not mounted yet, an error in the configuration.
            "KeepAlive": True,
            "ThrottleInterval": _THROTTLE,
            "ExitTimeOut": definition.stop_timeout,
            "ProcessType": "Interactive",  # the default is throttled
            "Umask": 0o077,
            "StandardOutPath": str(self.log),
            "StandardErrorPath": str(self.log),
        }
        if definition.environment:
            contents["EnvironmentVariables"] = dict(definition.environment)
        return plistlib.dumps(contents, sort_keys=False).decode()

    def install(self, definition: Definition) -> list[str]:
        """Write the file; launchd reads it at the next login, or with ``start``."""
        write_file(self.file, self.text(definition))
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(f"{self.log.parent}: {error.strerror}") from error
        return []

    def uninstall(self) -> None:
        """Stop the service, and remove its file."""
        check_installed(self.file)
        self.stop()
        self.file.unlink(missing_ok=True)

    def start(self) -> None:
        """Load the agent, which starts it; start it if it is loaded and has ended."""
        check_installed(self.file)
        run(["launchctl", "enable", self._target])
        if self._is_loaded():
            run(["launchctl", "kickstart", self._target])
        else:
            run(["launchctl", "bootstrap", self._domain, str(self.file)])

    def stop(self) -> None:
        """Unload the agent; an agent that is loaded would be started again at once."""
        if not self._is_loaded():
            return
        limit = self._stop_timeout() + _SPARE
        code, output, error = attempt(["launchctl", "bootout", self._target], timeout=limit)
        end = time.monotonic() + limit
        # launchctl also fails because the service takes its time to end.
        while self._is_loaded():
            if time.monotonic() > end:
                said = " ".join((error or output).split())
                raise ServiceError(f"the service has not ended in {limit} s ({code}): {said}")
            time.sleep(_INTERVAL)

    def restart(self) -> None:
        """Unload and load: `launchctl kickstart -k` would not read the file again."""
        check_installed(self.file)
        self.stop()
        self.start()

    def status(self) -> ServiceStatus:
        """From `launchctl print`, whose output is for people: only three fields are read."""
        code, output, _ = attempt(["launchctl", "print", self._target])
        found = _FIELD.findall(output) if code == 0 else []
        fields = dict(reversed(found))  # the first of each name; others are of its parts
        pid, last = fields.get("pid", ""), re.match(r"\d+", fields.get("last exit code", ""))
        return ServiceStatus(
            manager="launchd",
            file=self.file,
            state=self._state(fields, is_loaded=code == 0),
            pid=int(pid) if pid.isdigit() else None,
            last_exit_code=int(last[0]) if last else None,
            starts_at_login=self.file.exists(),
            log=str(self.log),
        )

    def _state(self, fields: dict[str, str], *, is_loaded: bool) -> State:
        if not self.file.exists() and not is_loaded:
            return "not installed"
        if not is_loaded:
            return "stopped"
        return "running" if fields.get("state") == "running" else "starting"

    def log_command(self, lines: int, *, follow: bool) -> list[str]:
        """``tail``; with -F, it goes on when somebody moves the file away."""
        if not self.log.exists():
            raise ServiceError(f"there is no log yet: {self.log}")
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(self.log)]

    def _is_loaded(self) -> bool:
        return attempt(["launchctl", "print", self._target])[0] == 0

    def _stop_timeout(self) -> int:
        """The limit of the file; a default for a file that somebody has changed."""
        try:
            return int(plistlib.loads(self.file.read_bytes())["ExitTimeOut"])
        except (OSError, KeyError, ValueError, TypeError, plistlib.InvalidFileException):
            return 60
