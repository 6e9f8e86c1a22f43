"""``mlxnode usage``: the requests and tokens of each key."""

import contextlib
import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxnode.cli.options import ExampleCommand, command, config_option, json_option
from mlxnode.cli.output import emit, say

if TYPE_CHECKING:
    from mlxnode.process.usage_file import Column

_COLUMNS: "tuple[Column, ...]" = ("day", "key", "model")  # as in usage_file

EXAMPLES = """\
mlxnode usage                         the last 30 days, by day, key and model
mlxnode usage --by key model --days 7
mlxnode usage --from 2026-01-01 --to 2026-01-31 --key alice --csv > january.csv
"""


class _Day(click.ParamType):
    name = "day"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.date:
        """A day after 1999."""
        with contextlib.suppress(ValueError):
            day = datetime.date.fromisoformat(str(value))
            if day.year >= 2000:
                return day
        self.fail(f"expected a day, as 2026-01-31, got {value!r}", param, ctx)


class _Count(click.ParamType):
    name = "count"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """A number of days."""
        if re.fullmatch("[1-9][0-9]{0,3}", str(value)):
            return int(str(value))
        self.fail(f"expected a number from 1 to 9999, got {value!r}", param, ctx)


class _Usage(ExampleCommand):
    """``--by`` takes one or more columns, which click's options do not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with ``--by a b`` read as ``--by a --by b``."""
        words: list[str] = []
        for word in args:
            follows_column = len(words) > 1 and words[-2] == "--by" and words[-1] in _COLUMNS
            words += ["--by", word] if follows_column and not word.startswith("-") else [word]
        return super().parse_args(ctx, words)


@command(EXAMPLES, cls=_Usage)
@config_option
@click.option("--days", type=_Count(), metavar="N", help="That many days. [default: 30]")
@click.option("--from", "first", type=_Day(), metavar="DAY", help="The first day.")
@click.option(
    "--to",
    type=_Day(),
    metavar="DAY",
    help="The last day, as 2026-01-31, in UTC. [default: today]",
)
@click.option("--key", metavar="ID", help="Only this key, by its id or name.")
@click.option("--model", metavar="ID", help="Only this model.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(_COLUMNS),
    default=_COLUMNS,
    help="A line for each of these. [default: for each day, key and model]",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def usage(
    config: Path | None,
    days: int | None,
    first: datetime.date | None,
    to: datetime.date | None,
    key: str | None,
    model: str | None,
    by: "Sequence[Column]",
    as_json: bool,
    as_csv: bool,
) -> int:
    """Show the requests and tokens of each key, by day and model."""
    if days is not None and first is not None:
        raise click.UsageError("--days is not allowed with --from")
    if as_json and as_csv:
        raise click.UsageError("--csv is not allowed with --json")

    from mlxnode.config.file import load_config
    from mlxnode.errors import UsageError
    from mlxnode.process.usage_file import read_usage, usage_path
    from mlxnode.process.usage_text import usage_csv, usage_text

    loaded = load_config(config)
    path = usage_path(loaded.config.server.usage_file)
    if path is None:
        raise UsageError(f'{loaded.where}: server.usage_file = "": no usage is kept')
    last = to or datetime.datetime.now(datetime.UTC).date()
    begin = first or last - datetime.timedelta(days=(days or 30) - 1)
    rows = read_usage(
        path, first=begin.isoformat(), last=last.isoformat(), key=key, model=model, by=by
    )
    if as_csv:
        click.echo(usage_csv(rows, by), nl=False)
    elif rows or as_json:
        emit(rows, as_json, lambda: usage_text(rows, by))
    else:
        say(f"mlxnode: no usage from {begin} to {last} in {path}")
    return 0
