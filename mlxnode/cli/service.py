"""``mlxnode service``: the node as a service of launchd or systemd."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxnode.cli.options import command, config_option, examples_section, json_option
from mlxnode.cli.output import emit, say
from mlxnode.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from mlxnode.config.file import LoadedConfig
    from mlxnode.service.definition import ServiceStatus
    from mlxnode.service.manager import Manager

EXAMPLES = """\
mlxnode service install --now             start it now, and at each login
mlxnode service install --config my.toml --print
mlxnode service status
mlxnode service logs -f
"""


class ServiceGroup(click.Group):
    """A group whose help ends with examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        examples_section(formatter, EXAMPLES)


@click.group(cls=ServiceGroup, context_settings={"help_option_names": ["-h", "--help"]})
def service() -> None:
    """Run the node as a service, with launchd or systemd."""


def _command(examples: str) -> Callable[[Callable[..., Any]], None]:
    """As ``options.command``, for a command of this group."""
    return lambda function: service.add_command(command(examples)(function))


@_command(
    """\
mlxnode service install --now             start it now, and at each login
mlxnode service install --config my.toml --print
"""
)
@config_option
@click.option("--now", is_flag=True, help="Also start it.")
@click.option("--print", "print_only", is_flag=True, help="Show the file, and write nothing.")
@click.option("--force", is_flag=True, help="Also where Homebrew has a service of its own.")
@json_option
def install(
    config: Path | None, now: bool, print_only: bool, force: bool, as_json: bool
) -> int:
    """Write the service's file; the service starts at each login."""
    from mlxnode.config.file import load_config
    from mlxnode.service.definition import define

    loaded = load_config(config.expanduser().absolute() if config else None)
    manager = _manager()
    file = loaded.file and loaded.file.absolute()
    server = loaded.config.server
    drain = server.drain_delay + server.drain_timeout
    definition = define(Path(sys.executable), file, Path.home(), drain, os.environ)
    if print_only:
        text = manager.text(definition)
        emit({"file": manager.file, "contents": text}, as_json, text.rstrip("\n"))
        return 0
    if not force:
        _check_homebrew()
    hints = [*manager.install(definition), *_secrets_hint(loaded)]
    if now:
        manager.restart()
    for hint in hints:
        say(f"mlxnode: {hint}")
    state = "started" if now else "mlxnode service start"
    value = {"file": manager.file, "is_started": now, "hints": hints}
    emit(value, as_json, f"wrote {manager.file}\n{state}")
    return 0


@_command(
    """\
mlxnode service uninstall
"""
)
@json_option
def uninstall(as_json: bool) -> int:
    """Stop the service, and remove its file."""
    manager = _manager()
    manager.uninstall()
    emit({"file": manager.file, "is_removed": True}, as_json, f"removed {manager.file}")
    return 0


@_command(
    """\
mlxnode service start
"""
)
@json_option
def start(as_json: bool) -> int:
    """Start the service."""
    manager = _manager()
    manager.start()
    return _show(manager, as_json)


@_command(
    """\
mlxnode service stop
"""
)
@json_option
def stop(as_json: bool) -> int:
    """Stop the service: running requests finish; it starts again at the next login."""
    manager = _manager()
    manager.stop()
    return _show(manager, as_json)


@_command(
    """\
mlxnode service restart                   after an upgrade, say
"""
)
@json_option
def restart(as_json: bool) -> int:
    """Stop the service, and start it again."""
    manager = _manager()
    manager.restart()
    return _show(manager, as_json)


@_command(
    """\
mlxnode service status
mlxnode service status --json | jq -r .state
"""
)
@json_option
def status(as_json: bool) -> int:
    """Say whether the service runs; exit code 1 if it does not."""
    manager = _manager()
    found = manager.status()
    emit(found, as_json, lambda: _status_text(found))
    return 0 if found.state == "running" else 1


@_command(
    """\
mlxnode service logs -n 200
mlxnode service logs -f
"""
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1),
    default=50,
    metavar="N",
    help="The newest N lines; default: 50.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until ctrl-C.")
@json_option
def logs(lines: int, follow: bool, as_json: bool) -> int:
    """Show the log of the service."""
    if follow and as_json:
        raise ConfigError("--json and --follow exclude each other: the document would not end")
    program = _manager().log_command(lines, follow=follow)
    try:
        done = subprocess.run(program, stdout=subprocess.PIPE if as_json else None, text=True)
    except FileNotFoundError as error:
        raise ServiceError(f"there is no program {program[0]} on this machine") from error
    if as_json:
        emit({"lines": done.stdout.splitlines()}, True, "")
    return 0 if done.returncode == 0 else 1


def _manager() -> "Manager":
    from mlxnode.service.manager import manager_of

    return manager_of(sys.platform, Path.home(), os.environ)


def _check_homebrew() -> None:
    """Raises ServiceError if Homebrew has the service: two would fight for the port."""
    from mlxnode.service.homebrew import homebrew_prefix, homebrew_service

    if (used := homebrew_service(Path.home())) is not None:
        raise ServiceError(
            f"Homebrew's service is in use ({used}): `brew services restart mlxnode` starts it "
            "again, `brew services stop mlxnode` ends it; --force writes another one"
        )
    if homebrew_prefix(Path(sys.prefix)) is not None:
        raise ServiceError(
            "Homebrew has installed this mlxnode, and brings the service: run `brew services "
            "start mlxnode`; --force writes another one"
        )


def _secrets_hint(loaded: "LoadedConfig") -> list[str]:
    from mlxnode.service.definition import SECRETS

    if not (found := [name for name in SECRETS if os.environ.get(name)]):
        return []
    where = "its configuration" if loaded.file is None else loaded.file
    return [f"{', '.join(found)}: the service does not see the variable; put keys into {where}"]


def _show(manager: "Manager", as_json: bool) -> int:
    found = manager.status()
    emit(found, as_json, lambda: _status_text(found))
    return 0


def _status_text(found: "ServiceStatus") -> str:
    lines: list[tuple[str, Any]] = [
        ("state", found.state if found.pid is None else f"{found.state} (pid {found.pid})"),
        ("last exit code", found.last_exit_code),
        ("starts at login", "yes" if found.starts_at_login else "no"),
        (found.manager, found.file),
        ("log", found.log),
    ]
    return "\n".join(f"{name:<16} {value}" for name, value in lines if value is not None)
