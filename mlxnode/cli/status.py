"""``mlxnode status``: what the running node does, again each second in a terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxnode.cli.options import address_option, command, config_option, json_option
from mlxnode.cli.output import emit

if TYPE_CHECKING:
    from mlxnode.figures import NodeFigures

INTERVAL = 1.0  # seconds between two looks

EXAMPLES = """\
mlxnode status                        live in a terminal: q or ctrl-C ends it
mlxnode status --once
mlxnode status --address 127.0.0.1:8000
mlxnode status --json | jq .engine.memory
"""


@command(EXAMPLES)
@config_option
@address_option("The node that listens there.")
@click.option("--once", is_flag=True, help="Print the figures once, as into a pipe.")
@json_option
def status(config: Path | None, address: str | None, once: bool, as_json: bool) -> int:
    """Show what the running node does, and its memory."""
    from mlxnode.cli.loading import port_of
    from mlxnode.process.status_socket import read_status
    from mlxnode.process.status_text import status_text

    port = port_of(config, address)
    figures = read_status(port)
    if as_json or once or not sys.stdout.isatty():
        emit(figures, as_json, lambda: status_text(figures))
    else:
        _watch(port, figures)
    return 0


def _watch(port: int, figures: "NodeFigures") -> None:
    """Draw the figures again each second, until q or ctrl-C."""
    from rich.live import Live

    from mlxnode.cli.keyboard import pressed_keys
    from mlxnode.cli.status_view import status_view
    from mlxnode.cli.terminal import console
    from mlxnode.errors import StatusError
    from mlxnode.process.status_socket import read_status

    screen = console()
    note = "q ends"
    live = Live(console=screen, auto_refresh=False, vertical_overflow="crop")
    try:
        with pressed_keys() as wait, live:
            while True:
                live.update(status_view(figures, screen.width, note), refresh=True)
                if wait(INTERVAL)[:1] in ("q", "Q", "\x04"):
                    return
                try:
                    figures, note = read_status(port), "q ends"
                except StatusError as error:  # it may be started again
                    note = f"{error}; q ends"
    except KeyboardInterrupt:  # how many end it
        return
