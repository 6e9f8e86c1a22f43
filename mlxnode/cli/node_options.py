"""What the commands share that talk to a node: its options, and how they wait for it."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlxnode.cli.options import address_option, config_option
from mlxnode.cli.output import say

if TYPE_CHECKING:
    from mlxnode.client.connect import Wanted

Function = TypeVar("Function", bound=Callable[..., Any])


def node_options(function: Function) -> Function:
    """``--url``, ``--address``, ``--api-key`` and ``--config``, for ``wanted_node``."""
    for option in (
        config_option,
        click.option(
            "--api-key",
            metavar="KEY",
            help="The key, else $MLXNODE_API_KEY, else one of the configuration.",
        ),
        address_option("The node that listens there."),
        click.option("--url", metavar="URL", help="A node, or another server of this API."),
    ):
        function = option(function)
    return function


def wanted_node(options: dict[str, Any]) -> "Wanted":
    """The node that the options ask for; takes them out of ``options``."""
    from mlxnode.client.connect import Wanted

    return Wanted(
        options.pop("url"),
        options.pop("address"),
        options.pop("api_key"),
        options.pop("config"),
    )


@contextlib.contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner until the block ends; the block gets a function that changes its text.

    Where standard error is no terminal, each text is a line.
    """
    if not sys.stderr.isatty():
        yield say
        return
    from rich.text import Text

    from mlxnode.cli.terminal import console

    with console(stderr=True).status(Text(text)) as status:
        yield lambda news: status.update(Text(news))


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an exception would, unless they are ignored."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
