"""Takes a text in brackets, such as a JSON object, from a text that arrives in parts."""

import re
from collections.abc import Callable, Collection

from mlxnode.server.notation.notation import GEMMA_QUOTE
from mlxnode.server.parsing.source import Reading, TextSource

MAX_DEPTH = 100  # of brackets; deeper ones are no call

_OUTSIDE = re.compile(r"""[{}\[\]()"'<]""")
_IN_STRING = {quote: re.compile(rf"[\\{quote}]") for quote in "\"'"}


class Misread(Exception):
    """The text is not what the reader was to read."""


def take_brackets(
    source: TextSource,
    *,
    stops: Collection[str],
    has_gemma_quotes: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Reading[str]:
    """The text from the bracket that is next to the one that closes it.

    Brackets in strings do not count. ``stops`` cannot occur outside strings. ``tell`` is
    called with each piece of the text as soon as it is there.

    Raises:
        Misread: there is no such text.
    """
    pieces: list[str] = []

    def take(length: int) -> None:
        piece = source.take(length)
        pieces.append(piece)
        if tell is not None and piece:
            tell(piece)

    depth = 0
    while True:
        found = _OUTSIDE.search(source.text, source.at)
        take((found.start() if found else len(source.text)) - source.at)
        if found is None:
            if not (yield from source.more()):
                raise Misread
            continue
        sign = found[0]
        if sign == "<" or sign == "[":
            quotes = [GEMMA_QUOTE] if has_gemma_quotes else []
            literal = yield from source.next_of([*stops, *quotes])
            if literal == GEMMA_QUOTE and has_gemma_quotes:
                yield from _take_string(source, literal, take)
                continue
            if literal or sign == "<":
                raise Misread
        if sign == '"' or (sign == "'" and not has_gemma_quotes):
            yield from _take_string(source, sign, take)
            continue
        take(1)
        depth += (sign in "{[(") - (sign in "}])")
        if depth == 0:
            return "".join(pieces)
        if depth > MAX_DEPTH:
            raise Misread


def _take_string(source: TextSource, quote: str, take: Callable[[int], None]) -> Reading[None]:
    take(len(quote))
    if quote == GEMMA_QUOTE:
        while (at := source.text.find(quote, source.at)) < 0:
            take(max(len(source.text) - source.at - len(quote) + 1, 0))
            if not (yield from source.more()):
                raise Misread
        take(at - source.at + len(quote))
        return
    while True:
        found = _IN_STRING[quote].search(source.text, source.at)
        take((found.start() if found else len(source.text)) - source.at)
        if found is None:
            if not (yield from source.more()):
                raise Misread
        elif found[0] == quote:
            take(1)
            return
        else:
            take(len((yield from source.ahead(2))))
