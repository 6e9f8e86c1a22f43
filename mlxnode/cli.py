"""The command line: one function for each command."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mlxnode import __version__
from mlxnode.config.file import LoadedConfig, load_config, parse_address
from mlxnode.config.tables import LogLevel
from mlxnode.errors import ModelError, NodeError
from mlxnode.process.logging import set_up_logging
from mlxnode.process.usage_command import add_usage_options, show_usage

if TYPE_CHECKING:
    from mlxnode.models.resolve import Resolved

EXAMPLES = """examples:
  mlxnode serve                         serve the models of config.toml, else the demo models
  mlxnode serve --config my.toml --address 0.0.0.0:8000
  mlxnode models                        what is registered, and whether it is on disk
  mlxnode check --deep && mlxnode serve
  mlxnode status                        what the running node does, and the memory it uses
  mlxnode reload                        after a change of the configuration or of the disk
  mlxnode usage --by key                what each key has used in the last 30 days
  mlxnode doctor                        does everything work on this machine?

The configuration is looked for at --config, $MLXNODE_CONFIG, ./config.toml and
~/.config/mlxnode/config.toml. Keys may come from $MLXNODE_API_KEY. Exit codes: 0 ended as
asked, 1 cannot serve, 2 wrong command line or configuration.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # by ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
        return 128 + signal.SIGPIPE
    except NodeError as error:
        print(f"mlxnode: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlxnode",
        description="An OpenAI-compatible inference server for Apple silicon, through MLX.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlxnode {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="<command>")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
        return sub

    serve = add("serve", _serve, "Serve the configured models over HTTP.")
    serve.add_argument("--address", metavar="HOST:PORT", help="listen there instead")
    serve.add_argument("--workers", type=int, metavar="N", help="number of HTTP processes")
    serve.add_argument("--log-level", choices=get_args(LogLevel), help="how much to log")
    status = add("status", _status, "Show what the running node does, and its memory.")
    status.add_argument("--address", metavar="HOST:PORT", help="the node that listens there")
    status.add_argument("--json", action="store_true", help="all figures as JSON")
    reload = add("reload", _reload, "Let the running node read its configuration again.")
    reload.add_argument("--address", metavar="HOST:PORT", help="the node that listens there")
    usage = add(
        "usage", show_usage, "Show the requests and tokens of each key, by day and model."
    )
    add_usage_options(usage)
    add("models", _models, "List the configured models, and whether they are on disk.")
    check = add("check", _check, "Check the configuration and the models without serving.")
    check.add_argument(
        "--deep", action="store_true", help="load each model and run it, as serve does"
    )
    doctor = add("doctor", _doctor, "Check this machine, its limits and the configuration.")
    doctor.add_argument(
        "--report",
        nargs="?",
        type=Path,
        const=Path("mlxnode-report.md"),
        metavar="FILE",
        help="measure as well, for minutes, and write it all to FILE (default: %(const)s)",
    )
    return parser


def _serve(options: argparse.Namespace) -> int:
    overrides = {
        "api.address": options.address,
        "server.workers": options.workers,
        "server.log_level": options.log_level,
    }
    from mlxnode.models.discovery.complete import complete

    def load(file: Path | None) -> LoadedConfig:
        return complete(load_config(file, overrides=overrides), _say)

    loaded = load(options.config)
    config = loaded.config
    set_up_logging(config.server.log_level)
    _warn(loaded)
    if not config.api.enabled:
        print(
            f"mlxnode: {loaded.where}: api.enabled = false: nothing to serve", file=sys.stderr
        )
        return 0

    # Imported here, as in the other commands: spawned children import this module again.
    from mlxnode.models.resolve import failure_text
    from mlxnode.process.access import access_of
    from mlxnode.process.changes import NodeModels
    from mlxnode.process.fits import FitWeigher
    from mlxnode.process.listener import listen, url_of
    from mlxnode.process.ready import ready_text
    from mlxnode.process.supervisor import Supervisor
    from mlxnode.process.watch import ConfigWatch

    listener = listen(loaded.host, loaded.port)
    models, failed = _resolve(loaded)
    if failed and (not models or config.server.require_all_models):
        raise ModelError(f"{loaded.where}: {failure_text(config, failed)}")
    url = url_of(listener, "http" if loaded.certificate is None else "https")
    return Supervisor(
        config.without_secrets(),
        models,
        access_of(loaded),
        listener,
        failed=failed,
        aliases=loaded.aliases,
        watch=ConfigWatch(
            loaded, NodeModels(models, failed, loaded.aliases), lambda: load(loaded.file)
        ),
        weigher=FitWeigher(config.engine),
        on_progress=_say,
        on_ready=lambda failed: _say(ready_text(url, models, failed, loaded)),
    ).run()


def _status(options: argparse.Namespace) -> int:
    import msgspec

    from mlxnode.process.status_socket import read_status
    from mlxnode.process.status_text import status_text

    figures = read_status(_port(options))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(figures)).decode())
    else:
        print(status_text(figures))
    return 0


def _reload(options: argparse.Namespace) -> int:
    from mlxnode.process.status_socket import ask_reload

    for change in ask_reload(_port(options)) or ["nothing is new"]:
        print(change)
    return 0


def _port(options: argparse.Namespace) -> int:
    """The port of the node that a command is for."""
    if options.address is None:
        return load_config(options.config).port
    return parse_address(options.address)[1]


def _models(options: argparse.Namespace) -> int:
    from mlxnode.models.discovery.complete import complete
    from mlxnode.models.resolve import ListedModel, list_models
    from mlxnode.process.weigh import weigh

    loaded = complete(load_config(options.config), _say)
    header = ListedModel("ID", "TYPE", "SIZE", "CONTEXT", "ON DISK", "FIT", "PATH")
    listed = list_models(loaded.config, folder=loaded.folder)
    found = weigh([model for _, model in listed if model is not None], loaded.config.engine)
    fits = [found[model.id].short if model else "-" for _, model in listed]
    rows = zip((row for row, _ in listed), fits, strict=True)
    lines = [header, *(row._replace(fit=fit) for row, fit in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _check(options: argparse.Namespace) -> int:
    from mlxnode.models.discovery.complete import complete
    from mlxnode.models.resolve import failure_text
    from mlxnode.process.weigh import load_once, notations, weigh

    loaded = complete(load_config(options.config), _say)
    _warn(loaded)
    models, failed = _resolve(loaded)
    engine = loaded.config.engine
    found = weigh(models, engine)
    lines = notations(models, engine)
    for model in models:
        print(f"{model.id}: {model.type}, {model.architecture}, {model.context_length} tokens")
        if found[model.id].fits:
            print(f"  {found[model.id].text}")
        else:
            failed[model.id] = found[model.id].text
        for line in lines.get(model.id, []):
            print(f"  {line}")
    if options.deep:
        failed |= load_once([model for model in models if model.id not in failed], engine)
    if failed:
        raise ModelError(f"{loaded.where}: {failure_text(loaded.config, failed)}")
    print(f"{loaded.where}: {len(models)} models, nothing to complain about")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mlxnode.doctor.examine import examine, report, worst_code, write_report
    from mlxnode.doctor.render import as_text

    if options.report is not None:
        return write_report(options.report, report(options.config, _say), _say)
    sections = []
    for section in examine(options.config):
        print(as_text([section]), flush=True)
        sections.append(section)
    return worst_code(sections)


def _resolve(loaded: LoadedConfig) -> "Resolved":
    from mlxnode.models.resolve import resolve_each

    try:
        return resolve_each(loaded.config, _say, folder=loaded.folder)
    except NodeError as error:
        raise type(error)(f"{loaded.where}: {error}") from error


def _warn(loaded: LoadedConfig) -> None:
    for warning in loaded.warnings:
        _say(f"mlxnode: {loaded.where}: warning: {warning}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed, and the node still drains
        print(text, file=sys.stderr, flush=True)
