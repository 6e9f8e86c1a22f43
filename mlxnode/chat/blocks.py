"""Where a growing Markdown text can be cut: all before the cut stays as it is."""

from markdown_it import MarkdownIt

_PARSER = MarkdownIt().enable("strikethrough").enable("table")  # as rich reads it


def cut(text: str) -> int:
    """The characters of the complete blocks at the start of ``text``.

    The last block can still grow, and so can a line without an end.
    """
    whole = text[: text.rfind("\n") + 1]
    starts = [
        token.map[0]
        for token in _PARSER.parse(whole)
        if token.level == 0 and token.map is not None and token.nesting >= 0
    ]
    if len(starts) < 2:
        return 0
    lines = whole.split("\n")  # as the parser counts them: U+2028 ends no line
    return sum(len(line) + 1 for line in lines[: starts[-1]])
