"""The documents of the repository, and the code blocks in them, each with its marker.

A marker is an HTML comment in the line before a block, which GitHub does not show::

    <!-- run: none because: needs Homebrew -->
"""

import functools
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_MARKER = re.compile(r"(?m)^ *<!-- run: (.+?) -->$")


@dataclass(frozen=True)
class Snippet:
    """A code block. ``line`` is that of its fence; ``marker`` is empty if there is none."""

    document: Path
    line: int
    language: str
    text: str
    marker: str

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def snippets(document: Path) -> list[Snippet]:
    """The code blocks of ``document``, from its first to its last one."""
    found = []
    marker = ""
    for token in tokens_of(document):
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            found.append(Snippet(document, line, token.info.strip(), token.content, marker))
        if token.type == "html_block" and (match := _MARKER.fullmatch(token.content.strip())):
            marker = match[1]
        elif token.nesting >= 0:
            marker = ""
    return found


def all_snippets() -> list[Snippet]:
    return [snippet for document in DOCUMENTS for snippet in snippets(document)]


def snippet_of(name: str, language: str) -> str:
    """The text of the only block of ``language`` in ``name`` that does not call mlxnode."""
    texts = [one.text for one in snippets(ROOT / name) if one.language == language]
    (found,) = (text for text in texts if not text.startswith("mlxnode "))
    return found


def markers(document: Path) -> list[str]:
    """All markers of ``document``, those before no code block as well."""
    return _MARKER.findall(document.read_text(encoding="utf-8"))


def inline_code(document: Path) -> list[str]:
    """The texts between single backticks, outside of code blocks."""
    return [
        child.content
        for token in tokens_of(document)
        for child in token.children or ()
        if child.type == "code_inline"
    ]


def links(document: Path) -> list[str]:
    """The targets of all links and images."""
    return [
        str(child.attrs.get("href", child.attrs.get("src")))
        for token in tokens_of(document)
        for child in token.children or ()
        if child.type in ("link_open", "image")
    ]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    tokens = tokens_of(document)
    texts = [
        "".join(child.content for child in after.children or ())
        for token, after in itertools.pairwise(tokens)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@functools.cache
def tokens_of(document: Path) -> list[Token]:
    """The document as markdown-it parses it."""
    parser = MarkdownIt("commonmark").enable("table")
    return parser.parse(document.read_text(encoding="utf-8"))
