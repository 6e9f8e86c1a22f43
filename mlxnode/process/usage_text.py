"""The usage of keys as text: for people, and for spreadsheets."""

import csv
import io
from collections.abc import Sequence

from mlxnode.process.text_table import aligned
from mlxnode.process.usage_file import COLUMNS, Column, Sums, UsageRow

_HEADER = ("REQUESTS", "PROMPT", "CACHED", "GENERATED")


def usage_text(rows: Sequence[UsageRow], by: Sequence[Column]) -> str:
    """One line for each row with the columns ``by``, then the sums of all rows."""
    columns: list[str] = [column for column in COLUMNS if column in by]
    total = Sums()
    lines: list[Sequence[str]] = [[*map(str.upper, columns), *_HEADER]]
    for row in rows:
        total = total.plus(row.sums)
        lines.append([*_names(row, columns), *map(str, row.sums)])
    lines.append(["all", *[""] * (len(columns) - 1), *map(str, total)])
    return "\n".join(aligned(lines, left=len(columns)))


def usage_csv(rows: Sequence[UsageRow], by: Sequence[Column]) -> str:
    """The same rows with a header, after RFC 4180 but for the ends of lines."""
    columns: list[str] = [column for column in COLUMNS if column in by]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *Sums._fields])
    writer.writerows([*_names(row, columns), *row.sums] for row in rows)
    return text.getvalue()


def _names(row: UsageRow, columns: Sequence[str]) -> list[str]:
    return [getattr(row, column) for column in columns]
