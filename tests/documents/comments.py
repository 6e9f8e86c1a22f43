"""What the comments of the shipped config.toml say of its tables and keys."""

import dataclasses
import re
from typing import Any

import tomli
from documents.markdown import ROOT

SHIPPED = ROOT / "config.toml"
_HEADING = re.compile(r"(?:# )?\[([\w.-]+)\]\s*(?:# *(.*))?")
_KEY = re.compile(r"(?:# )?(\w+ = .+)")
_LISTED = re.compile(r"(\w+): (.+)")  # in a paragraph before a table: a key and its meaning


@dataclasses.dataclass
class Comments:
    """What is said of a table: in the paragraphs before it, and of each of its keys.

    ``examples`` are the values that the file shows.
    """

    intro: str = ""
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_comments(text: str | None = None) -> dict[str, Comments]:
    """The comments by the name of the table; tables with names of users share one."""
    reader = _Reader()
    for line in (SHIPPED.read_text() if text is None else text).splitlines():
        reader.read(line)
    return reader.tables


class _Reader:
    def __init__(self) -> None:
        self.tables: dict[str, Comments] = {}
        self._table = Comments()
        self._last = ""  # the key whose comment may go on in the next line
        self._paragraph: list[str] = []
        self._before: list[list[str]] = []  # paragraphs since the last key or heading

    def read(self, line: str) -> None:
        bare = line.strip()
        if heading := _HEADING.fullmatch(bare):
            self._open(heading[1], heading[2] or "")
        elif not bare:
            self._end_paragraph()
            if not self.tables:  # it is said of the whole file
                self._before = []
        elif line[0] == " " and bare[0] == "#" and self._last:
            self._table.keys[self._last] += f" {bare[1:].strip()}"
        elif (key := _KEY.fullmatch(bare)) and (parts := _split(key[1])):
            self._add_key(*parts)
        else:
            self._last = ""
            self._paragraph.append(bare.removeprefix("#").removeprefix(" "))

    def _open(self, heading: str, comment: str) -> None:
        self._end_paragraph()
        name = re.sub(r"^api\.(keys|models)\..+", _placeholder, heading)
        self._table = self.tables.setdefault(name, Comments())
        self._last = ""
        listed: dict[str, str] = {}
        texts = [_without_listed(lines, listed) for lines in self._before]
        self._before = []
        if not name.startswith("api.models") or not self._table.intro:
            said = [comment[:1].upper() + comment[1:] + "." if comment else "", *texts]
            self._table.intro = "\n\n".join(text for text in said if text)
        self._table.keys |= listed

    def _end_paragraph(self) -> None:
        if self._paragraph:
            self._before.append(self._paragraph)
        self._paragraph, self._last = [], ""

    def _add_key(self, name: str, value: Any, comment: str) -> None:
        if self._paragraph and not comment:
            comment = " ".join(self._paragraph)
        self._paragraph = []
        self._table.keys[name] = self._table.keys.get(name) or comment
        self._table.examples.setdefault(name, value)
        self._last = name if comment else ""


def _placeholder(match: re.Match[str]) -> str:
    return f"api.{match[1]}.{'<name>' if match[1] == 'keys' else '<id>'}"


def _split(line: str) -> tuple[str, Any, str] | None:
    """Name, value and comment of a line; None if it is a sentence."""
    ends = [match.start() for match in re.finditer(r"\s+#", line)]
    for end in [*ends, len(line)]:
        try:
            ((name, value),) = tomli.loads(line[:end]).items()
        except tomli.TOMLDecodeError:
            continue
        return name, value, line[end:].strip().removeprefix("#").strip()
    return None


def _without_listed(lines: list[str], listed: dict[str, str]) -> str:
    """The paragraph; its lines of the form ``key: meaning`` go to ``listed``."""
    rest: list[str] = []
    last = ""
    for line in lines:
        if found := _LISTED.fullmatch(line):
            last = found[1]
            listed[last] = found[2]
        elif last and line.startswith(" "):
            listed[last] += f" {line.strip()}"
        else:
            rest.append(line)
    return " ".join(rest)
