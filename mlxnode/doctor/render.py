"""Sections as text for a terminal, and as Markdown for a file."""

from collections.abc import Iterable, Sequence

import msgspec

from mlxnode.doctor.findings import Section, without_names

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL", "info": "-   "}


def as_text(sections: Iterable[Section]) -> str:
    """One line for each finding; the advice below it."""
    lines: list[str] = []
    for section in sections:
        lines.append(section.title)
        for finding in section.findings:
            first, *others = finding.text.splitlines() or [""]
            lines.append(f"  {_MARKS[finding.status]}  {finding.name}: {first}")
            lines += [f"        {line}" for line in others]
            if finding.advice and finding.status in ("warn", "fail"):
                lines.append(f"        -> {finding.advice}")
    return without_names("\n".join(lines))


def as_markdown(title: str, sections: Iterable[Section]) -> str:
    """A document with a heading for each section."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        if section.findings:
            rows = [[f.status, f.name, f.text, f.advice] for f in section.findings]
            parts.append(_table([["", "check", "found", "advice"], *rows]))
        if section.table:
            parts.append(_table(section.table))
        if section.log:
            parts.append("\n".join(f"    {line}".rstrip() for line in section.log.splitlines()))
    return without_names("\n\n".join(parts) + "\n")


def nameless(section: Section) -> Section:
    """The same section without names of users and of their folders."""
    text = without_names(msgspec.json.encode(section).decode())
    return msgspec.json.decode(text, type=Section)


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *others = rows
    lines = [_row(header), "|" + "---|" * len(header), *map(_row, others)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    text = (cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells)
    return f"| {' | '.join(text)} |"
