"""Each table of figures says on what, with which versions, when and how it was measured."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents.markdown import DOCUMENTS, ROOT, tokens_of

GENERATED = {"api.md", "cli.md", "configuration.md", "models.md"}
# "Measured: MACHINE; VERSIONS; DATE; COMMAND", in the paragraphs before the table.
MEASURED = re.compile(
    r"Measured: [^;]+; [^;]*\d+\.\d+[^;]*; \d{1,2} [A-Z][a-z]+ 20\d\d; [^;]*`([^`]+)`[^;]*\."
)
FIGURE = re.compile(r"[-+~<]?\d[\d,.]*(?!\w)")


def tables(document: Path) -> Iterator[tuple[list[list[str]], list[str]]]:
    """The rows of each table, and the paragraphs between it and the heading or table before."""
    paragraphs: list[str] = []
    rows: list[list[str]] = []
    tokens = tokens_of(document)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        text = following.content if following is not None else ""
        if token.type == "heading_open":
            paragraphs = []
        elif token.type == "paragraph_open":
            paragraphs.append(" ".join(text.split()))
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(text)
        elif token.type == "table_close":
            yield rows[1:], paragraphs
            rows, paragraphs = [], []


def has_figures(rows: list[list[str]]) -> bool:
    """True if most cells beside the first column are numbers."""
    cells = [cell for row in rows for cell in row[1:] if cell]
    return 2 * sum(bool(FIGURE.match(cell)) for cell in cells) > len(cells)


@pytest.mark.parametrize(
    "document",
    [file for file in DOCUMENTS if file.name not in GENERATED],
    ids=lambda file: file.name,
)
def test_tables_of_figures_say_how_they_were_measured(document):
    for rows, paragraphs in tables(document):
        if has_figures(rows):
            found = [MEASURED.fullmatch(text) for text in paragraphs]
            assert any(found), f"{document.name}: {rows[0]}"


def test_the_tables_that_have_to_say_it_are_found():
    found = {
        document.name: sum(has_figures(rows) for rows, _ in tables(document))
        for document in DOCUMENTS
    }
    assert found["speed.md"] == 5 and found["reliability.md"] == 4
    assert found["kernels.md"] == found["macos.md"] == 1 and found["kv-updates.md"] == 3
    assert found["clients.md"] == 0


def test_commands_that_measure_exist():
    for document in DOCUMENTS:
        for _, paragraphs in tables(document):
            for match in filter(None, map(MEASURED.fullmatch, paragraphs)):
                for name in re.findall(r"[\w/]+\.py|(?<=-m )[\w.]+", match[1]):
                    path = name if "/" in name else name.replace(".", "/") + ".py"
                    assert (ROOT / path).is_file(), f"{document.name}: {name}"


@pytest.mark.parametrize(
    "text",
    [
        "Measured: a Mac; MLX 0.32.4; yesterday; `make bench`.",
        "Measured: a Mac; MLX; 1 May 2026; `make bench`.",
        "Measured: a Mac; MLX 0.32.4; 1 May 2026; by hand.",
        "On a Mac; MLX 0.32.4; 1 May 2026; `make bench`.",
    ],
)
def test_a_line_that_lacks_a_part_is_none(text):
    assert not MEASURED.fullmatch(text)
    assert MEASURED.fullmatch("Measured: a Mac; MLX 0.32.4; 1 May 2026; `make bench`.")
