"""The manager of services of this system, and what each manager can do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mlxnode.errors import ServiceError
from mlxnode.service.definition import Definition, ServiceStatus
from mlxnode.service.launchd import Launchd
from mlxnode.service.systemd import Systemd


class Manager(Protocol):
    """launchd or systemd, for one user. Each method raises ServiceError if it fails."""

    file: Path

    def text(self, definition: Definition) -> str:
        """The contents of the service's file."""
        ...

    def install(self, definition: Definition) -> list[str]:
        """Write the file, so that the service starts at each login; returns hints."""
        ...

    def uninstall(self) -> None:
        """Stop the service, and remove its file."""
        ...

    def start(self) -> None:
        """Start the service; nothing happens if it runs."""
        ...

    def stop(self) -> None:
        """Stop the service and wait for its end; it starts again at the next login."""
        ...

    def restart(self) -> None:
        """Stop the service, if it runs, and start it as its file says now."""
        ...

    def status(self) -> ServiceStatus:
        """What the system says about the service."""
        ...

    def log_command(self, lines: int, *, follow: bool) -> list[str]:
        """The program that prints the newest lines of the log."""
        ...


def manager_of(platform: str, home: Path, environ: Mapping[str, str]) -> Manager:
    """The manager on ``platform``, a value of ``sys.platform``.

    Raises:
        ServiceError: there is none that mlxnode knows.
    """
    if platform == "darwin":
        return Launchd(home)
    if platform == "linux":
        return Systemd(Path(environ.get("XDG_CONFIG_HOME") or home / ".config"))
    raise ServiceError(f"no service manager of {platform} is known")
