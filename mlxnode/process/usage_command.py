"""``mlxnode usage``: its options, and what it prints."""

import argparse
import contextlib
import datetime
import re
import sys

from mlxnode.config.file import load_config
from mlxnode.errors import UsageError

_COLUMNS = ("day", "key", "model")  # as in usage_file, which only the command itself imports


def add_usage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``show_usage`` reads."""
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--days", type=_count, default=30, metavar="N", help="that many days (default: 30)"
    )
    begin.add_argument("--from", dest="first", type=_day, metavar="DAY", help="the first day")
    parser.add_argument(
        "--to",
        type=_day,
        metavar="DAY",
        help="the last day, as 2026-01-31, in UTC (default: today)",
    )
    parser.add_argument("--key", metavar="ID", help="only this key, by its id or name")
    parser.add_argument("--model", metavar="ID", help="only this model")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=_COLUMNS,
        default=_COLUMNS,
        help="a line for each of these (default: for each day, key and model)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects")
    form.add_argument("--csv", action="store_true", help="comma-separated values")


def show_usage(options: argparse.Namespace) -> int:
    """Print the usage of the keys; returns the exit code.

    Raises:
        NodeError: the configuration is wrong, no usage is kept, or it cannot be read.
    """
    # Imported here: children of a node import this module, with the command line.
    import msgspec

    from mlxnode.process.usage_file import read_usage, usage_path
    from mlxnode.process.usage_text import usage_csv, usage_text

    loaded = load_config(options.config)
    path = usage_path(loaded.config.server.usage_file)
    if path is None:
        raise UsageError(f'{loaded.where}: server.usage_file = "": no usage is kept')
    last = options.to or datetime.datetime.now(datetime.UTC).date()
    first = options.first or last - datetime.timedelta(days=options.days - 1)
    rows = read_usage(
        path,
        first=first.isoformat(),
        last=last.isoformat(),
        key=options.key,
        model=options.model,
        by=options.by,
    )
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif options.csv:
        print(usage_csv(rows, options.by), end="")
    elif rows:
        print(usage_text(rows, options.by))
    else:
        print(f"mlxnode: no usage from {first} to {last} in {path}", file=sys.stderr)
    return 0


def _day(text: str) -> datetime.date:
    """The value of an option that is a day."""
    with contextlib.suppress(ValueError):
        day = datetime.date.fromisoformat(text)
        if day.year >= 2000:
            return day
    raise argparse.ArgumentTypeError(f"expected a day, as 2026-01-31, got {text!r}")


def _count(text: str) -> int:
    """The value of an option that is a number of days."""
    if re.fullmatch("[1-9][0-9]{0,3}", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 1 to 9999, got {text!r}")
