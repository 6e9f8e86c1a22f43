"""What a service runs, and how it is: the same for launchd and systemd."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Where a node finds its files. Secrets are not among them: the service's file is no place
# for them.
CARRIED = (
    "MLXNODE_CACHE",
    "MLXNODE_STATE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
)
SECRETS = ("MLXNODE_API_KEY", "MLXNODE_ADMIN_KEY", "HF_TOKEN")

_LEAST_STOP_TIMEOUT = 45  # seconds; as the service of Homebrew
_DRAIN_SPARE = 15  # seconds after the drain, in which all processes end

State = Literal["not installed", "stopped", "starting", "running", "stopping", "failed"]


@dataclass(frozen=True)
class Definition:
    """A service. ``stop_timeout``: the seconds from the signal to stop until it is killed."""

    arguments: tuple[str, ...]
    folder: Path  # the current folder of the process
    stop_timeout: int
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ServiceStatus:
    """What the system says about the service. ``log`` is how its output can be read."""

    manager: str
    file: Path
    state: State
    pid: int | None
    last_exit_code: int | None
    starts_at_login: bool
    log: str


def define(
    python: Path,
    config: Path | None,
    home: Path,
    drain: float,
    environ: Mapping[str, str],
) -> Definition:
    """The service that serves ``config``, or what the node finds without a file.

    ``python`` is the interpreter of the environment that mlxnode is installed in. ``drain`` is
    the time in seconds in which a node that is told to end does so.
    """
    # -P: a folder called mlxnode in the current folder is not the package.
    arguments = [str(python), "-P", "-m", "mlxnode", "serve"]
    if config is not None:
        arguments += ["--config", str(config)]
    environment = {name: environ[name] for name in CARRIED if environ.get(name)}
    stop_timeout = max(_LEAST_STOP_TIMEOUT, round(drain) + _DRAIN_SPARE)
    return Definition(tuple(arguments), home, stop_timeout, environment)
