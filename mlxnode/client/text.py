"""Text of others that is safe to write to a terminal."""

import re

# All of C0 but tab and line feed, DEL, and C1: a model or a server may write no control
# sequences, with which a terminal can be renamed, written into or asked for an answer. Half of
# a surrogate pair has no bytes in UTF-8.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` without control characters; tabs and line feeds stay."""
    return encodable(_CONTROL.sub("", text))


def encodable(text: str) -> str:
    """``text`` without bytes that were no UTF-8 where it was typed."""
    return _SURROGATE.sub("\ufffd", text)


def one_line(text: str, most: int = 500) -> str:
    """``text`` on one line of at most ``most`` characters."""
    line = " ".join(printable(text.replace("\r", " ")).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
