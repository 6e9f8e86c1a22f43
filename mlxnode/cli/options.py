"""What the commands have in common: a command with examples, and shared options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class ExampleCommand(click.Command):
    """A command whose help ends with examples, as they are written."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        examples_section(formatter, self.examples)
        super().format_epilog(ctx, formatter)


def examples_section(formatter: click.HelpFormatter, examples: str) -> None:
    """Lines of commands, which are not wrapped: they can be copied."""
    if examples:
        lines = "".join(f"  {line}\n" for line in examples.strip().splitlines())
        formatter.write(f"\nExamples:\n{lines}")


def command(examples: str, **kwargs: Any) -> Callable[[Callable[..., Any]], ExampleCommand]:
    """As ``click.command``, for a function that returns its exit code; None is 0."""
    settings = {"help_option_names": ["-h", "--help"]}
    kwargs = {"cls": ExampleCommand, "context_settings": settings, **kwargs}
    return click.command(examples=examples, **kwargs)


def config_option(function: Function) -> Function:
    """``--config FILE``: the argument ``config``, a path or None."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration file.",
    )(function)


def json_option(function: Function) -> Function:
    """``--json``: the argument ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
    )(function)


def address_option(text: str) -> Callable[[Function], Function]:
    """``--address HOST:PORT``: the argument ``address``, a string or None."""
    return click.option("--address", metavar="HOST:PORT", help=text)
